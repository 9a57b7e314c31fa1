//! The program as its users start it: what comes out, where it goes wrong, and the exit codes.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod made;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod past;
#[cfg(test)]
mod tool;
