//! The guest's clock rate, given to the guest kernel: on a busy host it would measure a wrong one while it boots.

use std::{fs, path::Path};

/// Returns the kernel argument for the guest's TSC. It is this machine's: QEMU's software emulation passes it on. A
/// guest whose processors get little time measures it wrongly, by a factor of eight at worst, and believes the result
/// (`tsc=reliable`). So the rate is given, if it is known on this machine.
pub(super) fn kernel_argument() -> String {
    let scaled = Path::new("/sys/devices/system/cpu/cpufreq/policy0").exists();
    let khz = fs::read_to_string("/proc/cpuinfo").ok().filter(|_| !scaled).and_then(|info| tsc_khz(&info));
    khz.map_or_else(String::new, |khz| format!(" tsc_early_khz={khz}"))
}

/// Returns the rate of the TSC in kHz. `cpu MHz` is that rate only where the kernel has nothing better to show there
/// (arch/x86/kernel/cpu/proc.c): neither a frequency that changes nor counters of the actual one.
fn tsc_khz(info: &str) -> Option<u64> {
    let value = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|found| found.trim() == name));
        Some(line?.split_once(':')?.1.trim())
    };
    let flags: Vec<&str> = value("flags")?.split_whitespace().collect();
    if !flags.contains(&"constant_tsc") || flags.contains(&"aperfmperf") {
        return None;
    }
    let (mhz, rest) = value("cpu MHz")?.split_once('.')?;
    let khz = mhz.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(rest.get(..3)?.parse().ok()?)?;
    (100_000..10_000_000).contains(&khz).then_some(khz)
}

#[cfg(test)]
mod tests {
    use super::tsc_khz;

    fn info(mhz: &str, flags: &str) -> String {
        format!(
            "processor\t: 0\nmodel name\t: cpu MHz\ncpu MHz\t\t: {mhz}\nflags\t\t: fpu {flags}\nflags\t\t: other\n"
        )
    }

    #[test]
    fn the_rate_is_told_only_where_it_is_known() {
        assert_eq!(tsc_khz(&info("2596.138", "tsc constant_tsc")), Some(2_596_138));
        assert_eq!(tsc_khz(&info("3000.000", "constant_tsc")), Some(3_000_000));
        assert_eq!(tsc_khz(&info("2596.138", "tsc")), None, "it changes with the frequency");
        assert_eq!(
            tsc_khz(&info("2596.138", "constant_tsc aperfmperf")),
            None,
            "that is the actual frequency"
        );
        for odd in ["0.000", "2596", "x.138", "99999999999999999999.000", ""] {
            assert_eq!(tsc_khz(&info(odd, "constant_tsc")), None, "{odd}");
        }
        assert_eq!(tsc_khz(""), None);
    }
}
