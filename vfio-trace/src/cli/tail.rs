//! `vfio-trace tail`: events on the terminal as they happen, and an account at the end.

use std::{io, time::Duration};

use bytes::Bytes;

use super::{
    error::CliError,
    events::{EventArgs, Stream},
    out_file::OutFile,
    parse,
    session::{Consumer, LiveArgs, Session, block_on},
};
use crate::{
    event::{DecodeError, Record},
    source::{clock::anchor, live::Live},
};

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    events: EventArgs,
    /// Stop after this time (10s, 1.5m, 200ms).
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    live: LiveArgs,
}

/// `vfio-trace tail`.
pub(super) fn main(args: &Args) -> Result<u8, CliError> {
    block_on(run(args))
}

impl Consumer for Stream<&mut OutFile> {
    fn record(&mut self, _bytes: &Bytes, record: Result<&Record, DecodeError>) -> Result<(), CliError> {
        self.push(record)
    }

    fn pause(&mut self) -> Result<(), CliError> {
        self.flush();
        Ok(())
    }

    fn tick(&mut self, settled_ns: u64, _live: &mut Live) -> Result<(), CliError> {
        self.expire(settled_ns)?;
        self.flush();
        Ok(())
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }
}

async fn run(args: &Args) -> Result<u8, CliError> {
    let mut session = Session::open(&args.live)?;
    session.explain_pids(&args.events.pids);
    session.drop_privileges()?;
    let anchor = anchor();
    let mut out = OutFile::stdout();
    let color = args.events.color.on(&io::stdout());
    let mut stream = Stream::new(&args.events, anchor, &mut out, color);
    let (start, began) = session.begin(anchor)?;
    let traced = args.live.start()?;
    stream.start(&start, began)?;
    let done = session.run(traced, args.duration, &mut stream).await?;
    if let Some(error) = done.error {
        return Err(error);
    }
    stream.finish()?;
    stream.account(&args.events, Some(&session.live.report()), began, Some(done.ended_ns))?;
    let gone = stream.is_gone();
    drop(stream);
    out.finish()?;
    Ok(if gone { done.quiet_code() } else { done.code() })
}
