//! How busy the machine is: printed beside the numbers, so that a reader knows what they are worth.

/// Prints the load averages and the CPUs.
pub fn tell(when: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("load {when}: {} on {cpus} CPUs", load.join(" "));
}
