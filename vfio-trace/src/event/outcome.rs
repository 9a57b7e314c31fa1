//! Outcome of a call or an arc: `result` and `errno` of the output.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

/// Pattern of an error's name in JSON; a number without a name is `errno n`.
pub(super) const ERRNO_PATTERN: &str = "^(E[A-Z0-9_]+|errno [0-9]+)$";

/// An error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub u32);

impl Errno {
    /// `EINVAL`.
    pub const EINVAL: Self = Self(22);
    /// `ENFILE`.
    pub const ENFILE: Self = Self(23);
    /// `EMFILE`.
    pub const EMFILE: Self = Self(24);
    /// `ENOMEM`.
    pub const ENOMEM: Self = Self(12);
    /// `EFAULT`.
    pub const EFAULT: Self = Self(14);
    /// `ENOMSG`: from `read()` on a data fd in PRE_COPY: nothing more for now.
    pub const ENOMSG: Self = Self(42);

    /// `EAGAIN`: nothing for now, from `read()`. From `write()` it may be the error of a load that failed.
    pub const EAGAIN: Self = Self(11);

    /// Returns true if a signal interrupted the call, which may be made again: EINTR, and the kernel's own codes that
    /// lead to it (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK).
    pub const fn is_interrupted(self) -> bool {
        matches!(self.0, 4 | 512..=514 | 516)
    }

    /// Returns the errno in a kernel function's return value; `None` if that is not negative.
    pub fn from_ret(ret: i64) -> Option<Self> {
        (ret < 0).then(|| Self(u32::try_from(ret.unsigned_abs()).unwrap_or(u32::MAX)))
    }

    /// Returns the name, as `EINVAL`; a number without a name as `errno 9999`.
    pub fn name(self) -> Cow<'static, str> {
        match i32::try_from(self.0).ok().and_then(vfio_uapi::errno::name) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("errno {}", self.0)),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// Outcome of a call or an arc. In JSON: the fields `result` and `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "OutcomeFields")]
pub enum CallOutcome {
    /// Success.
    Ok,
    /// It was tried and failed.
    Failed(Errno),
    /// The core refused the arc before the driver tried it: forbidden, or not supported by the device.
    Refused(Errno),
    /// Its end was not seen.
    Unknown,
}

impl CallOutcome {
    /// Converts a kernel function's return value: negative is an errno.
    pub fn from_ret(ret: impl Into<i64>) -> Self {
        Errno::from_ret(ret.into()).map_or(Self::Ok, Self::Failed)
    }

    /// Returns the value of `result`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the error, if it ended with one.
    pub const fn errno(self) -> Option<Errno> {
        match self {
            Self::Failed(errno) | Self::Refused(errno) => Some(errno),
            Self::Ok | Self::Unknown => None,
        }
    }

    /// Returns true if it failed or was refused.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed(_) | Self::Refused(_))
    }

    /// Returns true if it succeeded.
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// Outcome of a call or an arc.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Outcome")]
struct OutcomeFields {
    /// `refused`: the core did not let the driver try. `unknown`: its end was not seen.
    result: OutcomeResult,
    /// Name of the error, or null.
    #[schemars(regex(pattern = ERRNO_PATTERN))]
    errno: Option<Cow<'static, str>>,
}

/// Outcome of a call or an arc, without the error.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Result")]
enum OutcomeResult {
    /// It did what was asked.
    Ok,
    /// It was tried and went wrong.
    Failed,
    /// The core refused the arc before the driver tried it: forbidden, or not supported by the device.
    Refused,
    /// Its end was not seen.
    Unknown,
}

impl From<CallOutcome> for OutcomeFields {
    fn from(outcome: CallOutcome) -> Self {
        let result = match outcome {
            CallOutcome::Ok => OutcomeResult::Ok,
            CallOutcome::Failed(_) => OutcomeResult::Failed,
            CallOutcome::Refused(_) => OutcomeResult::Refused,
            CallOutcome::Unknown => OutcomeResult::Unknown,
        };
        Self { result, errno: outcome.errno().map(Errno::name) }
    }
}

impl JsonSchema for CallOutcome {
    fn schema_name() -> Cow<'static, str> {
        OutcomeFields::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        OutcomeFields::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_names_of_the_text() {
        for (outcome, json) in [
            (CallOutcome::Ok, r#"{"result":"ok","errno":null}"#),
            (CallOutcome::Failed(Errno::EINVAL), r#"{"result":"failed","errno":"EINVAL"}"#),
            (CallOutcome::Refused(Errno(9999)), r#"{"result":"refused","errno":"errno 9999"}"#),
            (CallOutcome::Unknown, r#"{"result":"unknown","errno":null}"#),
        ] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), json);
            assert!(json.starts_with(&format!(r#"{{"result":"{}""#, outcome.name())), "{json}");
        }
    }

    #[test]
    fn return_values() {
        assert_eq!(CallOutcome::from_ret(0), CallOutcome::Ok);
        assert_eq!(CallOutcome::from_ret(5), CallOutcome::Ok);
        assert_eq!(CallOutcome::from_ret(-22), CallOutcome::Failed(Errno::EINVAL));
        assert_eq!(CallOutcome::from_ret(i64::MIN).errno(), Some(Errno(u32::MAX)));
        assert_eq!(Errno(u32::MAX).name(), "errno 4294967295");
        assert_eq!(Errno::EINVAL.to_string(), "EINVAL");
    }
}
