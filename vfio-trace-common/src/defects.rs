//! Kernel defects that can do harm, as data: the first release that has each, the releases that mend it, and what a
//! kernel's version strings say about it.

use core::fmt;

/// A release of Linux, such as 6.12.96.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major version: 6 of 6.12.96.
    pub major: u16,
    /// Minor version: 12 of 6.12.96.
    pub minor: u16,
    /// Stable patch level: 96 of 6.12.96, 0 in mainline.
    pub patch: u16,
}

impl Release {
    /// Makes a release from its numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    const fn series(self) -> (u16, u16) {
        (self.major, self.minor)
    }

    /// Splits a text into the release that it begins with and the rest: `7.2-rc1` and `7.2.0-rc1` are 7.2.0.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let (major, rest) = number(text)?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let (patch, rest) = rest.strip_prefix('.').and_then(number).unwrap_or((0, rest));
        Some((Self { major, minor, patch }, rest))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.patch {
            0 => write!(f, "{}.{}", self.major, self.minor),
            patch => write!(f, "{}.{}.{patch}", self.major, self.minor),
        }
    }
}

fn number(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// A release that a defect was mended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The first release of its series without the defect.
    pub release: Release,
    /// True if that release was checked for the mend. A mend that is only announced does not count.
    pub verified: bool,
}

const fn mended(major: u16, minor: u16, patch: u16) -> Mended {
    Mended { release: Release::new(major, minor, patch), verified: true }
}

/// A defect of the kernel that can do harm when a device is driven through its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Name of the defect for programs; never changes.
    pub id: &'static str,
    /// The operation that triggers the defect.
    pub trigger: &'static str,
    /// The harm that follows.
    pub harm: &'static str,
    /// The first release that has it.
    pub since: Release,
    /// The first mainline release, release candidates included, that does not have it any more.
    pub mainline: Release,
    /// Stable releases that it was mended in.
    pub stable: &'static [Mended],
}

/// Endless loop of `vfio_mig_get_next_state()`, which follows its table from ERROR to ERROR. In the kernel since
/// 4db52602a607; mended by a26b499b757c.
pub const NEXT_STATE_LOOP: Defect = Defect {
    id: "next-state-loop",
    trigger: "STOP_COPY to PRE_COPY or PRE_COPY_P2P, on a device with PRE_COPY",
    harm: "vfio_mig_get_next_state() loops for ever: the thread cannot be killed, and whatever else asks the device waits for it \
           until the host is booted again",
    since: Release::new(6, 2, 0),
    mainline: Release::new(7, 2, 0),
    stable: &[
        mended(7, 1, 4),
        mended(6, 18, 39),
        mended(6, 12, 96),
        Mended { release: Release::new(6, 6, 145), verified: false },
    ],
};

/// All known defects.
pub const DEFECTS: [Defect; 1] = [NEXT_STATE_LOOP];

/// State of a kernel with respect to a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The kernel is older than the defect.
    Older,
    /// The kernel has the mend: its release has it, or the kernel.org release that it contains.
    Mended,
    /// The kernel has the defect.
    Affected,
    /// The version strings do not tell: a distribution may have taken the mend, or newer code, without saying so.
    Unknown,
}

/// The kernel.org release that a kernel contains, from its version strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Base {
    release: Release,
    /// True if the kernel contains that release and nothing newer, as far as the version strings tell.
    exact: bool,
    /// True if the kernel is older than that release's first candidate, as Fedora's `7.2.0-0.rc0.20260615git…` is: the
    /// name does not tell which changes were merged by then.
    early: bool,
}

impl Base {
    /// Finds the release in `uname -r` (`release`) and `uname -v` (`version`).
    fn of(release: &str, version: &str) -> Option<Self> {
        let (told, rest) = Release::parse(release)?;
        // Debian names the release that it contains in `-v`, and counts its own ABI in `-r`: 6.1.0-26-amd64,
        // 6.12.117+deb12-amd64.
        let debian = version
            .split_once("Debian ")
            .and_then(|(_, package)| Release::parse(package))
            .filter(|(package, rest)| package.series() == told.series() && rest.starts_with(['-', '~', '+']));
        if let Some((package, _)) = debian {
            return Some(Self { release: package, exact: true, early: false });
        }
        let candidate =
            rest.strip_prefix("-rc").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let early = rest
            .split_once("rc0")
            .is_some_and(|(_, behind)| !behind.starts_with(|c: char| c.is_ascii_digit()));
        Some(Self { release: told, exact: (rest.is_empty() || candidate) && !early, early })
    }
}

impl Defect {
    /// Returns the standing of the kernel with this `uname -r` (`release`) and `uname -v` (`version`).
    pub fn standing(&self, release: &str, version: &str) -> Standing {
        let Some(Base { release, exact, early }) = Base::of(release, version) else {
            return Standing::Unknown;
        };
        if release >= self.mainline {
            let unsure = early && release == self.mainline;
            return if unsure { Standing::Unknown } else { Standing::Mended };
        }
        let stable = self.stable.iter().find(|mended| mended.release.series() == release.series());
        match stable.filter(|mended| release >= mended.release) {
            Some(Mended { verified: true, .. }) => Standing::Mended,
            Some(Mended { verified: false, .. }) => Standing::Unknown,
            None if !exact => Standing::Unknown,
            None if release < self.since => Standing::Older,
            None => Standing::Affected,
        }
    }

    /// Returns the releases that mend it, as text: `7.2, 7.1.4, 6.18.39 and 6.12.96`.
    pub const fn mended(&self) -> impl fmt::Display {
        MendedIn(*self)
    }
}

struct MendedIn(Defect);

impl fmt::Display for MendedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.mainline)?;
        let verified = || self.0.stable.iter().filter(|mended| mended.verified);
        let last = verified().count();
        for (at, mended) in (1..).zip(verified()) {
            write!(f, "{} {}", if at == last { " and" } else { "," }, mended.release)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::string::ToString as _;

    fn standing(release: &str, version: &str) -> Standing {
        NEXT_STATE_LOOP.standing(release, version)
    }

    #[test]
    fn releases_of_kernel_org_tell() {
        for (release, expected) in [
            ("6.1.120", Standing::Older),
            ("6.2.0", Standing::Affected),
            ("6.2.0-rc3", Standing::Affected),
            ("6.12.95", Standing::Affected),
            ("6.12.96", Standing::Mended),
            ("6.18.38", Standing::Affected),
            ("6.18.39", Standing::Mended),
            ("6.19.14", Standing::Affected),
            ("7.0.200", Standing::Affected),
            ("7.1.3", Standing::Affected),
            ("7.1.4", Standing::Mended),
            ("7.2-rc1", Standing::Mended),
            ("7.2.0-rc1", Standing::Mended),
            ("7.3.4", Standing::Mended),
            ("10.0.0", Standing::Mended),
            // Said to have the mend, but not checked.
            ("6.6.145", Standing::Unknown),
            ("6.6.144", Standing::Affected),
        ] {
            assert_eq!(standing(release, "#1 SMP"), expected, "{release}");
        }
    }

    #[test]
    fn distributions_tell_only_what_they_contain() {
        for (release, version, expected) in [
            (
                "6.12.117+deb12-amd64",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-01)",
                Standing::Mended,
            ),
            (
                "6.12.57+deb13-amd64",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)",
                Standing::Affected,
            ),
            ("6.12.0-9-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.100-1 (2026-08-01)", Standing::Mended),
            ("6.1.0-26-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.112-1 (2024-09-30)", Standing::Older),
            // A release that does not belong to this kernel does not count.
            ("6.12.0-9-amd64", "#1 SMP Debian 7.3.1-1", Standing::Unknown),
            ("6.12.0-9-amd64", "#1 SMP Debian 6.12.100x", Standing::Unknown),
            ("7.3.4+deb13-amd64", "#1 SMP", Standing::Mended),
            ("6.18.40-200.fc43.x86_64", "#1 SMP", Standing::Mended),
            ("6.17.7-300.fc43.x86_64", "#1 SMP", Standing::Unknown),
            ("6.6.0-28.0.0.34.oe2403.aarch64", "#1 SMP", Standing::Unknown),
            ("6.8.0-45-generic", "#45-Ubuntu SMP", Standing::Unknown),
            ("7.1.0-next-20261101", "#1", Standing::Unknown),
            // From before the first candidate.
            ("7.2.0-0.rc0.20260615gitabcdef012345.3.fc45.x86_64", "#1 SMP", Standing::Unknown),
            ("7.2.0-rc0", "#1 SMP", Standing::Unknown),
            ("7.2.0-0.rc1.20260701git0123456789ab.5.fc45.x86_64", "#1 SMP", Standing::Mended),
            ("7.3.0-0.rc0.20260815gitabcdef012345.3.fc45.x86_64", "#1 SMP", Standing::Mended),
            // Enterprise kernels have taken PRE_COPY into older ones.
            ("5.14.0-570.el9.x86_64", "#1 SMP", Standing::Unknown),
        ] {
            assert_eq!(standing(release, version), expected, "{release} {version}");
        }
    }

    #[test]
    fn nonsense_is_unknown() {
        for release in ["", "six", "6", "6.", "6.x", "99999999.1.1", ".6.12", "-6.12.99", "６.12.99"] {
            assert_eq!(standing(release, ""), Standing::Unknown, "{release}");
        }
        assert_eq!(standing("6.12.99999999", ""), Standing::Unknown);
    }

    #[test]
    fn where_it_was_mended_is_told_without_what_nobody_has_seen() {
        assert_eq!(NEXT_STATE_LOOP.mended().to_string(), "7.2, 7.1.4, 6.18.39 and 6.12.96");
    }
}
