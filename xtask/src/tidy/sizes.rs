//! How long a file may be: none over the ceiling, nine of ten under the usual size. Tests apart.

use super::Finding;
use super::source::Source;

const CEILING: usize = 600;
const USUAL: usize = 350;
const USUAL_SHARE_PERCENT: usize = 90;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut sizes: Vec<(&str, usize)> = sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_test_file())
        .map(|source| (source.path.as_str(), code_lines(source)))
        .collect();
    sizes.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    let mut findings: Vec<Finding> = sizes
        .iter()
        .take_while(|(_, lines)| *lines > CEILING)
        .map(|(path, lines)| too_long(path, *lines, CEILING))
        .collect();
    let over = sizes.iter().take_while(|(_, lines)| *lines > USUAL).count();
    if over * 100 > sizes.len() * (100 - USUAL_SHARE_PERCENT) {
        findings.extend(
            sizes
                .iter()
                .take(over)
                .map(|(path, lines)| too_long(path, *lines, USUAL)),
        );
    }
    findings
}

fn too_long(path: &str, lines: usize, bound: usize) -> Finding {
    Finding {
        place: path.to_owned(),
        what: format!("{lines} lines of code, over {bound}"),
        mend: "split it by the nouns it speaks of",
    }
}

/// Lines that are neither blank, nor comment, nor tests.
fn code_lines(source: &Source) -> usize {
    let is_code = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    source
        .lines()
        .filter(|(number, line)| !source.in_tests(*number) && is_code(line))
        .count()
}
