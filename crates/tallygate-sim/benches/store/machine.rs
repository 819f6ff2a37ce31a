//! The machine under the benchmark: CPU time of processes, and what others leave of it.

use std::fs;
use std::time::Duration;

use super::Outcome;

/// Linux tells times to user space in hundredths of a second, on every architecture we know.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of this process so far.
pub(super) fn own_cpu() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the name in brackets and may hold blanks: fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let time = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u32>().ok())
    };
    let ticks = time(11).zip(time(12)).ok_or("a short /proc/self/stat")?;
    Ok(TICK * (ticks.0 + ticks.1))
}

/// How much of the machine is in use while we do nothing: processors busy over a second.
pub(super) fn busy_processors() -> Outcome<f64> {
    let before = busy_ticks()?;
    pause(Duration::from_secs(1));
    Ok((busy_ticks()? - before) as f64 * TICK.as_secs_f64())
}

/// Runnable processes on average over the last minute.
pub(super) fn load() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split_whitespace()
        .next()
        .ok_or("an empty loadavg")?
        .parse()?)
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn busy_ticks() -> Outcome<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("an empty /proc/stat")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // Fields 4 and 5 are idle and waiting for disks; guests' time is in the user's already.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok(ticks.iter().take(8).sum::<u64>() - idle)
}

/// Lets time pass: in the frame of the benchmark.
pub(super) fn pause(span: Duration) {
    std::thread::sleep(span); // tidy: sleeps because that is how long something is to last
}

/// Lets time pass: in a worker, for a call to a provider.
pub(super) async fn wait(span: Duration) {
    tokio::time::sleep(span).await; // tidy: sleeps because that is how long something is to last
}
