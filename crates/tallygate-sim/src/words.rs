//! Text of a chosen number of tokens.
//!
//! Every word of the lexicon is one token in the `cl100k` and `o200k` encodings, with and without a
//! blank before it, and both encodings split before a blank that a letter follows. So a text of `n`
//! words joined by single blanks is `n` tokens, whole or cut between words; nothing needs counting.

use crate::rng::Rng;

/// How many words the lexicon has.
pub const LEXICON_WORDS: usize = 512;

/// The lexicon, separated by single blanks.
const LEXICON: &str = "about above add after age air all also am an animal answer any are arm art ask at baby ball bank \
    base bear beat before being bell better big bird block blue board body bone born bottom box branch \
    break bright brown burn busy buy call came can car card carry case catch cell cent chair character \
    charge check child choose circle claim class clear close cloth coat cold color come common compare \
    condition connect contain control cook copy corner correct could country course cow create cross \
    current cut dance dark day deal deep degree describe develop dictionary divide do doctor dog done \
    double draw dream drink drop dry during ear early ease eat edge egg eight electric else end energy \
    enter equal even ever every example exercise expect experiment face fact fall family farm fat father \
    feed fell felt field figure fill find finger finish first fit five floor flow fly food foot force \
    form forward four fresh friend front full fun gas get girl glass go gone got grand gray green ground \
    grow guide gun hair hand happy has have he hear heart heavy help her high him his hit hole home \
    horse hour house human ice idea in inch industry instrument interest iron it job joy just keep kill \
    king know land language last law lay learn leave led leg less let level life lift like list listen \
    live log look lot love machine main major man map mark mass match material may mean measure men \
    metal middle mile million mine miss mix moment month moon most motion mount move multiply music my \
    name natural near necessary need never new night no noise north nothing notice now object observe \
    off offer often oil old once only open or organ original our over own paint paper paragraph part \
    party past pattern pay perhaps person phrase picture pitch place plan planet plant please plural \
    populate pose position post practice prepare press print problem produce proper property prove pull \
    push question quick quite radio rail raise range rather read real reason record region remember \
    reply require rest rich ride ring river road roll root rose row rule run said same sand save scale \
    school score sea season second section seed select self send sent sentence set shape share she shell \
    shine shop shore should side sign silver simple since single six size skin sleep slow snow soft \
    solution some son soon south space speech spell spot spring stand star state stay stead steel step \
    still stood stop story stream street string student study subtract such suffix summer support sure \
    symbol system tail talk team temperature term test thank the their then these they thing third this \
    though thought through thus tie tiny tone too top touch town trade travel tree trip true try turn \
    two under until up use value vary very visit voice walk want war was watch water way we weather \
    weight well were what wheel where which while who whose why wife will win window wing wire with \
    woman won word work would written wrong year yes yet young";

/// The word with this number, counted modulo the size of the lexicon.
pub fn word(number: usize) -> &'static str {
    lexicon()[number % LEXICON_WORDS]
}

/// Writes `tokens` words drawn from `rng`, separated by single blanks.
pub fn text(rng: &mut Rng, tokens: u64) -> String {
    let mut out = String::new();
    for index in 0..tokens {
        push_word(rng, index, &mut out);
    }
    out
}

/// Appends the word at `index` of a text: all but the first carry their blank in front.
pub(crate) fn push_word(rng: &mut Rng, index: u64, out: &mut String) {
    if index > 0 {
        out.push(' ');
    }
    let number = usize::try_from(rng.next_u64() >> 32).unwrap_or(0);
    out.push_str(word(number));
}

fn lexicon() -> &'static [&'static str] {
    static WORDS: std::sync::LazyLock<Vec<&'static str>> =
        std::sync::LazyLock::new(|| LEXICON.split_whitespace().collect());
    &WORDS
}
