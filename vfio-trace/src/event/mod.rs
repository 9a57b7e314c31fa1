//! Record -> typed event, and the event as JSON.
