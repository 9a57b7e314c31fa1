//! The grammar of a step: `[N:]STEP[=ARGUMENT][!ERRNO][ -> VALUE]`.

use std::path::PathBuf;
use std::str::FromStr;

use vfio_bindings::bindings::vfio as abi;

use crate::errno;
use crate::states::MigState;
use crate::uapi::{DmaRange, FeatureOp};

/// One step: its text, and its meaning. Parsed from the command line, done by `run.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The step as written, without errno and value.
    pub(crate) text: String,
    /// Position of the device, counted from 0.
    pub(crate) device: usize,
    pub(crate) action: Action,
    /// Errno with which it has to fail.
    pub(crate) expected: Option<i32>,
    /// Value that it has to see.
    pub(crate) value: Option<String>,
}

impl Step {
    /// Returns the highest device that the step needs, counted from 0.
    pub(crate) fn last_device(&self) -> usize {
        match self.action {
            Action::CopyTo { device, .. } => self.device.max(device),
            _ => self.device,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Set(MigState),
    Crowd { state: MigState, threads: usize },
    Hoard { files: usize },
    Get,
    Flags,
    Size,
    Probe { feature: u32, op: FeatureOp },
    PrecopyInfo,
    Read { bytes: usize, file: Option<PathBuf> },
    ReadAll { file: Option<PathBuf>, chunk: usize },
    Write { file: PathBuf, chunk: Option<usize> },
    WriteZero { bytes: usize },
    CopyTo { device: usize, chunk: usize },
    Knob { name: String, value: Option<String> },
    Patch { file: PathBuf, offset: usize, bytes: Vec<u8> },
    Truncate { file: PathBuf, bytes: usize },
    LogStart(DmaRange),
    LogReport(DmaRange),
    LogStop,
    Reset,
    PciReset,
    CloseData,
    Reopen,
    Rebind,
    Sleep { ms: u64 },
    Pause { file: PathBuf },
    Matrix,
}

/// Bytes of each read unless the step says otherwise. QEMU reads with the same size.
const DEFAULT_CHUNK: usize = 1 << 20;
/// Largest buffer of a read or write in bytes: enough for any VMM, and a typo cannot take all of the VM's memory.
const MOST_BYTES: u64 = 1 << 30;
/// Largest number of pages in a dirty bitmap: a bitmap of 32 MiB.
const MOST_PAGES: u64 = 1 << 28;

const COUNTED: &str = "devices are counted from 1";

const FEATURES: [(&str, u32); 9] = [
    ("MIGRATION", abi::VFIO_DEVICE_FEATURE_MIGRATION),
    ("MIG_DEVICE_STATE", abi::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE),
    ("DMA_LOGGING_START", abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_START),
    ("DMA_LOGGING_STOP", abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
    ("DMA_LOGGING_REPORT", abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT),
    ("MIG_DATA_SIZE", abi::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE),
    ("BUS_MASTER", abi::VFIO_DEVICE_FEATURE_BUS_MASTER),
    ("DMA_BUF", abi::VFIO_DEVICE_FEATURE_DMA_BUF),
    ("MIG_PRECOPY_INFOv2", abi::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2),
];

impl FromStr for Step {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let (written, value) = match written.split_once(" -> ") {
            Some((step, value)) => (step, Some(value.to_owned())),
            None => (written, None),
        };
        let (text, expected) = split_errno(written)?;
        let (device, step) = match text.split_once(':') {
            Some((number, step))
                if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                (number.parse().map_err(|_huge| format!("there is no device {number}"))?, step)
            },
            _ => (1_usize, text),
        };
        let device = device.checked_sub(1).ok_or(COUNTED)?;
        let (name, argument) =
            step.split_once('=').map_or((step, None), |(name, argument)| (name, Some(argument)));
        Ok(Self { text: text.to_owned(), device, action: action(name, argument)?, expected, value })
    }
}

/// Splits `set=STOP!EINVAL` into `set=STOP` and 22. A `!` in a file name is not followed by an errno's letters.
fn split_errno(written: &str) -> Result<(&str, Option<i32>), String> {
    match written.rsplit_once('!') {
        Some((text, name))
            if name.starts_with('E') && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            let number =
                errno::number(name).ok_or_else(|| format!("`{name}` is no errno that this program knows"))?;
            Ok((text, Some(number)))
        },
        _ => Ok((written, None)),
    }
}

fn action(name: &str, argument: Option<&str>) -> Result<Action, String> {
    let needed = || argument.ok_or_else(|| format!("`{name}` needs an argument: {name}=…"));
    let action = match name {
        "set" => Action::Set(needed()?.parse().map_err(|error| format!("{error}"))?),
        "crowd" => crowd(needed()?)?,
        "hoard" => Action::Hoard { files: many(needed()?)? },
        "probe" => probe(needed()?)?,
        "read" => {
            let (bytes, file) = split(needed()?);
            Action::Read { bytes: size(bytes)?, file: file.map(PathBuf::from) }
        },
        "read-all" => {
            let (file, chunk) = argument.map(file_and_chunk).transpose()?.unzip();
            Action::ReadAll { file, chunk: chunk.flatten().unwrap_or(DEFAULT_CHUNK) }
        },
        "write" => {
            let (file, chunk) = file_and_chunk(needed()?)?;
            Action::Write { file, chunk }
        },
        "write-zero" => Action::WriteZero { bytes: size(needed()?)? },
        "copy-to" => copy_to(needed()?)?,
        "knob" => {
            let (name, value) = split(needed()?);
            Action::Knob { name: name.to_owned(), value: value.map(str::to_owned) }
        },
        "patch" => patch(needed()?)?,
        "truncate" => match needed()?.rsplit_once(':') {
            Some((file, bytes)) if !file.is_empty() => {
                Action::Truncate { file: PathBuf::from(file), bytes: size(bytes)? }
            },
            _ => return Err("write truncate=FILE:BYTES".to_owned()),
        },
        "sleep" => {
            let ms = needed()?;
            Action::Sleep { ms: ms.parse().map_err(|_nan| format!("`{ms}` is no number of milliseconds"))? }
        },
        "pause" => Action::Pause { file: PathBuf::from(needed()?) },
        "log-start" => Action::LogStart(range(argument)?),
        "log-report" => Action::LogReport(range(argument)?),
        _ => return without_argument(name, argument),
    };
    Ok(action)
}

fn without_argument(name: &str, argument: Option<&str>) -> Result<Action, String> {
    let action = match name {
        "get" => Action::Get,
        "flags" => Action::Flags,
        "size" => Action::Size,
        "precopy-info" => Action::PrecopyInfo,
        "log-stop" => Action::LogStop,
        "reset" => Action::Reset,
        "pci-reset" => Action::PciReset,
        "close-data" => Action::CloseData,
        "reopen" => Action::Reopen,
        "rebind" => Action::Rebind,
        "matrix" => Action::Matrix,
        _ => return Err(format!("there is no step `{name}`; see --help")),
    };
    argument.map_or(Ok(action), |argument| Err(format!("`{name}` takes no argument, not even `{argument}`")))
}

/// Parses `STATE:N`.
fn crowd(argument: &str) -> Result<Action, String> {
    let (state, threads) = argument.split_once(':').ok_or("write crowd=STATE:N")?;
    let state = state.parse().map_err(|error| format!("{error}"))?;
    Ok(Action::Crowd { state, threads: many(threads)? })
}

/// Parses a number of threads or files: no more than a VM can have.
fn many(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=100_000).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number from 1 to 100000"))
}

fn split(argument: &str) -> (&str, Option<&str>) {
    argument.split_once(':').map_or((argument, None), |(first, second)| (first, Some(second)))
}

fn copy_to(argument: &str) -> Result<Action, String> {
    let (device, chunk) = split(argument);
    let number: usize = device.parse().map_err(|_nan| format!("`{device}` is no device's number"))?;
    let chunk = chunk.map(size).transpose()?.unwrap_or(DEFAULT_CHUNK);
    if chunk == 0 {
        return Err("a chunk has at least one byte".to_owned());
    }
    Ok(Action::CopyTo { device: number.checked_sub(1).ok_or(COUNTED)?, chunk })
}

/// Parses `FILE:OFFSET:HEX`, from its end as file names may have colons.
fn patch(argument: &str) -> Result<Action, String> {
    let mut parts = argument.rsplitn(3, ':');
    let (Some(hex), Some(offset), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("write patch=FILE:OFFSET:HEX".to_owned());
    };
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    match bytes {
        Some(bytes) if !bytes.is_empty() && hex.len() % 2 == 0 => {
            Ok(Action::Patch { file: PathBuf::from(file), offset: size(offset)?, bytes })
        },
        _ => Err(format!("`{hex}` is no row of bytes in hexadecimal")),
    }
}

fn probe(argument: &str) -> Result<Action, String> {
    let (feature, op) = split(argument);
    let op = match op {
        None => FeatureOp::Probe,
        Some("get") => FeatureOp::ProbeGet,
        Some("set") => FeatureOp::ProbeSet,
        Some(other) => return Err(format!("a probe asks for `get` or `set`, not for `{other}`")),
    };
    let known = FEATURES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(feature));
    let number = known.map(|(_, number)| number).or_else(|| feature.parse().ok());
    let feature = number.ok_or_else(|| {
        let names: Vec<&str> = FEATURES.into_iter().map(|(name, _)| name).collect();
        format!("`{feature}` is no feature; it is one of {} or a number", names.join(", "))
    })?;
    Ok(Action::Probe { feature, op })
}

/// Splits off the last part as a chunk if it is a size, so that file names with colons still work.
fn file_and_chunk(argument: &str) -> Result<(PathBuf, Option<usize>), String> {
    let (file, chunk) = match argument.rsplit_once(':') {
        Some((file, chunk)) if number(chunk).is_some() => (file, Some(size(chunk)?)),
        _ => (argument, None),
    };
    if file.is_empty() {
        return Err("the file name is missing".to_owned());
    }
    if chunk == Some(0) {
        return Err("a chunk has at least one byte".to_owned());
    }
    Ok((PathBuf::from(file), chunk))
}

fn range(argument: Option<&str>) -> Result<DmaRange, String> {
    let Some(argument) = argument else {
        return Ok(DmaRange { iova: 0, length: 1 << 20, page_size: 4096 });
    };
    let parts: Option<Vec<u64>> = argument.split(':').map(number).collect();
    let range = match parts.as_deref() {
        Some(&[iova, length]) => DmaRange { iova, length, page_size: 4096 },
        Some(&[iova, length, page_size]) if page_size > 0 => DmaRange { iova, length, page_size },
        _ => return Err(format!("`{argument}` is no range; write IOVA:LENGTH or IOVA:LENGTH:PAGE")),
    };
    if range.length / range.page_size > MOST_PAGES {
        return Err(format!(
            "`{argument}` has more than {MOST_PAGES} pages; take a shorter range or larger pages"
        ));
    }
    Ok(range)
}

/// Parses a size that becomes a buffer.
fn size(text: &str) -> Result<usize, String> {
    let bytes = number(text).ok_or_else(|| format!("`{text}` is no size; write 4096, 64K or 1M"))?;
    if bytes > MOST_BYTES {
        return Err(format!("{text} is more than {} MiB at once", MOST_BYTES >> 20));
    }
    usize::try_from(bytes).map_err(|_huge| format!("{text} does not fit in memory"))
}

/// Parses a number: decimal, or hexadecimal after 0x, with an optional K, M or G.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    value.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Step {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_step_has_a_device_an_action_and_an_errno() {
        let step = parsed("2:set=PRE_COPY!EINVAL");
        assert_eq!(step.text, "2:set=PRE_COPY");
        assert_eq!((step.device, step.expected), (1, Some(22)));
        assert_eq!(step.action, Action::Set(MigState::PRE_COPY));
        assert_eq!((parsed("get").device, parsed("get").expected), (0, None));
    }

    #[test]
    fn sizes_files_and_chunks() {
        assert_eq!(parsed("read=4K").action, Action::Read { bytes: 4096, file: None });
        assert_eq!(
            parsed("read=0x18:/tmp/image").action,
            Action::Read { bytes: 24, file: Some(PathBuf::from("/tmp/image")) }
        );
        assert_eq!(parsed("read-all").action, Action::ReadAll { file: None, chunk: 1 << 20 });
        assert_eq!(
            parsed("read-all=/tmp/a:b").action,
            Action::ReadAll { file: Some(PathBuf::from("/tmp/a:b")), chunk: 1 << 20 }
        );
        assert_eq!(
            parsed("write=/tmp/wow!:16").action,
            Action::Write { file: PathBuf::from("/tmp/wow!"), chunk: Some(16) }
        );
        assert_eq!(parsed("write-zero=1M!EFAULT").action, Action::WriteZero { bytes: 1 << 20 });
    }

    #[test]
    fn copies_and_knobs() {
        assert_eq!(parsed("copy-to=2").action, Action::CopyTo { device: 1, chunk: 1 << 20 });
        assert_eq!(parsed("2:copy-to=1:4K").last_device(), 1);
        assert_eq!(parsed("copy-to=3:4K").last_device(), 2);
        assert_eq!(parsed("pause=/run/go").action, Action::Pause { file: PathBuf::from("/run/go") });
        assert_eq!(parsed("knob=where").action, Action::Knob { name: "where".to_owned(), value: None });
        let step = parsed("2:knob=fail:STOP STOP_COPY EIO 2!EINVAL");
        assert_eq!((step.device, step.expected), (1, Some(22)));
        let value = Some("STOP STOP_COPY EIO 2".to_owned());
        assert_eq!(step.action, Action::Knob { name: "fail".to_owned(), value });
    }

    #[test]
    fn values_patches_and_cuts() {
        let step = parsed("2:write=/tmp/i!EFAULT -> 0");
        assert_eq!(
            (step.text.as_str(), step.expected, step.value.as_deref()),
            ("2:write=/tmp/i", Some(14), Some("0"))
        );
        assert_eq!(
            parsed("patch=/tmp/a:b:0x1c:02ff").action,
            Action::Patch { file: PathBuf::from("/tmp/a:b"), offset: 28, bytes: vec![2, 255] }
        );
        assert_eq!(
            parsed("truncate=/tmp/i:100").action,
            Action::Truncate { file: PathBuf::from("/tmp/i"), bytes: 100 }
        );
        assert_eq!(parsed("pci-reset").action, Action::PciReset);
    }

    #[test]
    fn features_and_ranges() {
        assert_eq!(
            parsed("probe=DMA_LOGGING_START").action,
            Action::Probe { feature: 6, op: FeatureOp::Probe }
        );
        assert_eq!(
            parsed("probe=77:get!ENOTTY").action,
            Action::Probe { feature: 77, op: FeatureOp::ProbeGet }
        );
        let usual = DmaRange { iova: 0, length: 1 << 20, page_size: 4096 };
        assert_eq!(parsed("log-start").action, Action::LogStart(usual));
        assert_eq!(
            parsed("log-report=0x1000:1M:64K").action,
            Action::LogReport(DmaRange { iova: 4096, length: 1 << 20, page_size: 65536 })
        );
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, hint) in [
            ("set", "needs an argument"),
            ("set=PRECOPY", "no migration state"),
            ("jump", "no step `jump`"),
            ("get=1", "takes no argument"),
            ("0:get", "counted from 1"),
            ("set=STOP!EWHAT", "no errno"),
            ("read=many", "no size"),
            ("read=2G", "at once"),
            ("write=", "file name is missing"),
            ("write=/tmp/x:0", "at least one byte"),
            ("probe=TELEPORT", "no feature"),
            ("probe=1:put", "`get` or `set`"),
            ("log-start=1", "no range"),
            ("log-report=0:0xffffffffffffffff:1", "more than"),
            ("sleep=long", "milliseconds"),
            ("pause", "needs an argument"),
            ("copy-to=next", "no device's number"),
            ("copy-to=0", "counted from 1"),
            ("copy-to=2:0", "at least one byte"),
            ("knob", "needs an argument"),
            ("patch=/tmp/i:8", "FILE:OFFSET:HEX"),
            ("patch=/tmp/i:8:0", "hexadecimal"),
            ("truncate=/tmp/i", "FILE:BYTES"),
        ] {
            let error = text.parse::<Step>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
