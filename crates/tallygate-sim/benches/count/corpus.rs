//! What is counted: the project's own prose and code, and generated JSON and CJK text.

use std::fs;
use std::path::Path;

use tallygate_sim::Rng;
use tallygate_sim::words;

use super::Outcome;

/// Documents of one kind.
pub(super) struct Corpus {
    pub(super) name: &'static str,
    pub(super) documents: Vec<String>,
}

impl Corpus {
    fn new(name: &'static str, text: &str) -> Self {
        Self {
            name,
            documents: cut(text),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.documents.iter().map(String::len).sum()
    }
}

pub(super) fn all() -> Outcome<Vec<Corpus>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut prose, mut code) = (String::new(), String::new());
    gather(&root, "md", &mut prose)?;
    gather(&root.join("crates"), "rs", &mut code)?;
    Ok(vec![
        Corpus::new("prose", &prose),
        Corpus::new("code", &code),
        Corpus::new("JSON", &json(&mut Rng::new(1))),
        Corpus::new("CJK", &cjk(&mut Rng::new(2))),
    ])
}

/// Appends all files of an ending, in the order of their names; build products and hidden folders apart.
fn gather(folder: &Path, ending: &str, text: &mut String) -> Outcome {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            gather(&path, ending, text)?;
        } else if path.extension().is_some_and(|found| found == ending) && text.len() < LARGEST {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Records as an API returns them.
fn json(rng: &mut Rng) -> String {
    let mut records = Vec::new();
    for id in 0..1_500 {
        let tags: Vec<String> = (0..rng.below(4)).map(|_| words::text(rng, 1)).collect();
        records.push(serde_json::json!({
            "id": format!("{:016x}", rng.next_u64()),
            "number": id,
            "amount": rng.below(1_000_000) as f64 / 100.0,
            "created_at": format!("2026-{:02}-{:02}T{:02}:00:00Z", 1 + rng.below(12), 1 + rng.below(28), rng.below(24)),
            "title": words::text(rng, 6),
            "tags": tags,
            "owner": { "name": words::text(rng, 2), "active": rng.below(2) == 0, "score": null },
        }));
    }
    serde_json::to_string_pretty(&records).unwrap_or_default()
}

/// Sentences of everyday words in Chinese, Japanese and Korean.
fn cjk(rng: &mut Rng) -> String {
    let mut text = String::new();
    while text.len() < 256 << 10 {
        let (lexicon, gap, stop) = LANGUAGES[rng.below(LANGUAGES.len() as u64) as usize];
        let lexicon: Vec<&str> = lexicon.split(' ').collect();
        for _ in 0..6 + rng.below(14) {
            text.push_str(lexicon[rng.below(lexicon.len() as u64) as usize]);
            text.push_str(gap);
        }
        text.push_str(stop);
    }
    text
}

/// Words, what stands between them, what ends a sentence.
const LANGUAGES: [(&str, &str, &str); 3] = [
    (
        "我们 今天 在 城市 里 看见 很多 人 他们 正在 工作 学习 和 讨论 新 的 计划 因为 天气 非常 好 孩子 去 公园 玩 老师 说 明天 还有 考试 \
         银行 会 打开 系统 的 限制 数据 需要 时间 处理 请求 结果 可以 保存",
        "",
        "。",
    ),
    (
        "私たち は 今日 町 で 多く の 人 を 見ました 彼ら 働いて います 新しい 計画 について 話し合う 天気 が とても 良い ので 子ども 公園 へ \
         行く 先生 明日 試験 ある と 言う システム データ リクエスト 処理 する 時間 必要 です",
        "",
        "。\n",
    ),
    (
        "우리는 오늘 도시에서 많은 사람을 보았다 그들은 새로운 계획을 이야기하고 있다 날씨가 매우 좋아서 아이들이 공원에 간다 선생님은 내일 시험이 \
         있다고 말한다 시스템 데이터 요청을 처리하는 시간이 필요하다",
        " ",
        ". ",
    ),
];

/// Pieces of about 8 KB, cut between characters.
fn cut(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = DOCUMENT.min(rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (piece, left) = rest.split_at(at);
        pieces.push(piece.to_owned());
        rest = left;
    }
    pieces
}

const DOCUMENT: usize = 8 << 10;

/// Enough of a kind; what the tree has beyond is left out.
const LARGEST: usize = 1 << 20;
