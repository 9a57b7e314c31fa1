//! JSON Schemas of the types that make their JSON themselves.

#![expect(dead_code, reason = "shapes of other types, for the schema alone")]

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{CallOutcome, DataDirection, FindingSeverity, MigFlags, MigState};

/// Name of an error; a number without a name as `errno n`.
pub(super) const ERRNO: &str = "^(E[A-Z0-9_]+|errno [0-9]+)$";

/// Outcome of a call or an arc.
#[derive(JsonSchema)]
#[schemars(rename = "Outcome")]
struct OutcomeShape {
    /// `refused`: the core did not let the driver try. `unknown`: its end was not seen.
    result: ResultShape,
    /// Name of the error, or null.
    #[schemars(regex(pattern = ERRNO))]
    errno: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename = "Result", rename_all = "snake_case")]
enum ResultShape {
    Ok,
    Failed,
    Refused,
    Unknown,
}

/// Out of the device (`save`) or into it (`resume`).
#[derive(JsonSchema)]
#[schemars(rename = "Direction", rename_all = "snake_case")]
enum DirectionShape {
    Save,
    Resume,
}

/// Severity of a finding.
#[derive(JsonSchema)]
#[schemars(rename = "Severity", rename_all = "snake_case")]
enum SeverityShape {
    Info,
    Warning,
    Error,
}

/// A migration state; `Invalid(9)` for one that a newer kernel has.
#[derive(JsonSchema)]
#[schemars(rename = "State", transparent)]
struct StateShape(
    #[schemars(regex(
        pattern = "^(ERROR|STOP|RUNNING|STOP_COPY|RESUMING|RUNNING_P2P|PRE_COPY|PRE_COPY_P2P|Invalid\\([0-9]+\\))$"
    ))]
    String,
);

/// A device's migration flags: `stop-copy`, `p2p`, `pre-copy`; bits without a name as one hexadecimal number.
#[derive(JsonSchema)]
#[schemars(rename = "MigrationFlags", transparent)]
struct FlagsShape(#[schemars(inner(regex(pattern = "^(stop-copy|p2p|pre-copy|0x[0-9a-f]+)$")))] Vec<String>);

macro_rules! schema_as {
    ($($made:ty => $shape:ty),* $(,)?) => {$(
        impl JsonSchema for $made {
            fn schema_name() -> Cow<'static, str> {
                <$shape>::schema_name()
            }

            fn schema_id() -> Cow<'static, str> {
                <$shape>::schema_id()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$shape>::json_schema(generator)
            }
        }
    )*};
}

schema_as! {
    CallOutcome => OutcomeShape,
    DataDirection => DirectionShape,
    FindingSeverity => SeverityShape,
    MigFlags => FlagsShape,
    MigState => StateShape,
}
