use super::*;

fn names(own: &[&str]) -> (Metrics, MetricNames) {
    let metrics = Metrics::with_custom(own).expect("names that are free");
    let names = MetricNames::of(&metrics);
    (metrics, names)
}

/// Amounts by their names, written where the metrics stand as `there` and read where they stand as `here`.
fn sent(amounts: &[(&str, u64)], there: &[&str], here: &[&str]) -> Vec<(String, u64)> {
    let (metrics, names_there) = names(there);
    let metric = |name: &str| metrics.find(name).expect("a name");
    let mut bytes = Vec::new();
    let amounts = amounts.iter().map(|(name, amount)| (metric(name), *amount));
    names_there.write(amounts, &mut bytes);
    let (metrics, names_here) = names(here);
    let mut bytes = Unpack(&bytes);
    let read = names_here.read(&mut bytes).expect("it was written");
    assert!(bytes.is_empty());
    let named = |(metric, amount)| (metrics.name(metric).to_string(), amount);
    read.into_iter().map(named).collect()
}

#[test]
fn amounts_go_by_the_names_of_their_metrics() {
    let all = [("tokens", 5), ("images", 7), ("minutes", 0)];
    let known = |of: &[(&str, u64)]| -> Vec<(String, u64)> {
        of.iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect()
    };
    let there = ["images", "minutes"];
    assert_eq!(sent(&all, &there, &there), known(&all));
    assert_eq!(
        sent(&all, &there, &["minutes", "pages", "images"]),
        known(&all)
    );
    assert_eq!(
        sent(&all, &there, &["minutes", "pages"]),
        known(&[all[0], all[2]])
    );
    assert_eq!(sent(&all, &there, &[]), known(&all[..1]));
}

#[test]
fn a_metric_without_a_name_is_not_told() {
    let (metrics, _) = names(&["images"]);
    let images = metrics.find("images").expect("a name");
    let (_, none) = names(&[]);
    let mut bytes = Vec::new();
    none.write([(Metric::COST, 3), (images, 4)], &mut bytes);
    assert_eq!(
        none.read(&mut Unpack(&bytes)),
        Some(vec![(Metric::COST, 3)])
    );
}

#[test]
fn what_is_no_metric_is_not_read() {
    let (_, names) = names(&["images"]);
    for number in [6, 10, 254] {
        assert_eq!(
            names.read(&mut Unpack(&[1, number, 0, 0, 0, 0, 0, 0, 0])),
            None
        );
    }
    assert_eq!(names.read(&mut Unpack(&[1, NAMED, 0, 0])), None);
}

#[test]
fn names_may_be_added_behind_others() {
    let of = |own: &[&str]| names(own).1;
    let first = of(&["images", "minutes"]);
    assert!(of(&["images", "minutes", "pages"]).extends(&first));
    assert!(first.extends(&first));
    for other in [&["minutes", "images"][..], &["images"], &[]] {
        assert!(!of(other).extends(&first), "{other:?}");
    }
}
