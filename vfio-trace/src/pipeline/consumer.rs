//! What takes the events that come out of a pipeline.

use std::convert::Infallible;

use crate::event::VfioEvent;

/// A taker of events: it prints them, puts them into a history, or keeps them. A [`Pipeline`](super::Pipeline) calls it
/// for each event, in order, with findings right behind what they were made from.
pub trait EventConsumer {
    /// Why it can take no more; [`Infallible`] if it always can.
    type Error;

    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// Nothing more is to come: see [`Self::Error`].
    fn event(&mut self, event: VfioEvent) -> Result<(), Self::Error>;
}

/// Keeps all events, to go over them afterwards.
impl EventConsumer for Vec<VfioEvent> {
    type Error = Infallible;

    fn event(&mut self, event: VfioEvent) -> Result<(), Infallible> {
        self.push(event);
        Ok(())
    }
}
