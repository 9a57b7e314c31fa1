//! Receiver of the events that a pipeline makes.

use std::convert::Infallible;

use crate::event::VfioEvent;

/// A receiver of events: it prints them, puts them into a history, or keeps them. A [`Pipeline`](super::Pipeline) calls
/// it for each event, in order, with findings directly after the events they were made from.
pub trait EventConsumer {
    /// Error that ends the stream; [`Infallible`] if there is none.
    type Error;

    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// No further event can be taken: see [`Self::Error`].
    fn event(&mut self, event: VfioEvent) -> Result<(), Self::Error>;
}

/// Keeps all events, for use after the run.
impl EventConsumer for Vec<VfioEvent> {
    type Error = Infallible;

    fn event(&mut self, event: VfioEvent) -> Result<(), Infallible> {
        self.push(event);
        Ok(())
    }
}
