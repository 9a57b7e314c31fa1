//! Plan `faults`: images that a device must refuse, when they are written or at the latest when RESUMING is left; then
//! a good one.

use std::rc::Rc;

use super::{
    DeviceSelector, Errno, ExerciseRun, ExerciseVerdict, ExpectedOutcome, FindingSeverity, MigState,
    PlanInputs, StageError, finding, image, load, must,
};
use crate::driver::ImageIdentity;

const FIRST: DeviceSelector = DeviceSelector::First;

/// Kind of damage of an image. It decides about the verdict if the device accepts the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    /// Image that is not complete.
    Short,
    /// Image with a wrong bit at its beginning, where formats have their identification.
    Head,
    /// Image with a wrong bit in the rest: without a checksum it cannot be noticed.
    Body,
    /// Image of another device.
    Foreign,
    /// Image with additional bytes.
    Long,
}

struct ImageFault {
    name: &'static str,
    kind: FaultKind,
    /// Pieces of the image, each one write: a driver that has accepted the first may refuse the second.
    pieces: Vec<Vec<u8>>,
}

fn flipped(image: &[u8], at: usize, mask: u8) -> Vec<u8> {
    let mut image = image.to_vec();
    if let Some(byte) = image.get_mut(at) {
        *byte ^= mask;
    }
    image
}

/// Changes the member of an image that tells devices apart; `None` if the image does not have it.
fn foreign(image: &[u8], identity: &ImageIdentity) -> Option<Vec<u8>> {
    let mut image = image.to_vec();
    let end = identity.offset.checked_add(identity.length)?;
    let member = image.get_mut(identity.offset..end)?;
    // A few bits are changed, as for a similar device: 0xa251 becomes 0xa256, one port becomes six.
    *member.first_mut()? ^= 0x07;
    Some(image)
}

fn make(image: &[u8], identity: Option<&ImageIdentity>, wrong: Option<&[u8]>) -> Vec<ImageFault> {
    let half = image.len() / 2;
    let fault = |name, kind, pieces| ImageFault { name, kind, pieces };
    let cut = |length: usize| vec![image.get(..length).unwrap_or_default().to_vec()];
    let mut faults = vec![
        fault("nothing written", FaultKind::Short, Vec::new()),
        fault("truncated to a half", FaultKind::Short, cut(half)),
        fault("last byte missing", FaultKind::Short, cut(image.len().saturating_sub(1))),
        fault("bit flipped in the first byte", FaultKind::Head, vec![flipped(image, 0, 1)]),
        fault(
            "bit flipped in the last byte",
            FaultKind::Body,
            vec![flipped(image, image.len().saturating_sub(1), 1)],
        ),
        fault("too long", FaultKind::Long, vec![image.to_vec(), vec![0; 64]]),
    ];
    let other = wrong.map(<[u8]>::to_vec).or_else(|| foreign(image, identity?));
    faults.extend(other.map(|image| fault("wrong device", FaultKind::Foreign, vec![image])));
    faults
}

pub(super) fn faults(run: &mut ExerciseRun<'_>, means: &PlanInputs<'_>) -> Result<(), StageError> {
    if !run.can_reset(FIRST) {
        run.skip("faults", "faults", "the device has no VFIO_DEVICE_RESET that works, to recover by");
        return Ok(());
    }
    let mut good = None;
    run.stage("faults", "a good image to begin with", |run| {
        good = Some(image(run, means)?);
        Ok(())
    })?;
    let Some(good) = good.filter(|good: &Rc<[u8]>| good.len() > 1) else {
        run.skip("faults", "faults", "there is no image of two bytes or more that could be damaged");
        return Ok(());
    };
    let identity = run.bench(FIRST).quirks.and_then(|quirks| quirks.identity.as_ref());
    for fault in make(&good, identity, means.wrong.as_deref()) {
        run.stage("faults", fault.name, |run| {
            // Data that the driver keeps from one image to the next becomes as fresh as possible.
            run.reopen(FIRST)?;
            attempt(run, &fault)?;
            run.reset(FIRST)?;
            load(run, FIRST, &good)
        })?;
    }
    if identity.is_none() && means.wrong.is_none() {
        let why = "not known for this driver which bytes tell devices apart; give another device's image with --wrong";
        run.skip("faults", "wrong device", why);
    }
    Ok(())
}

/// Tries one bad image, and notes where it is refused.
fn attempt(run: &mut ExerciseRun<'_>, fault: &ImageFault) -> Result<(), StageError> {
    must(run, FIRST, MigState::RESUMING)?;
    let mut refused = None;
    for (at, piece) in fault.pieces.iter().enumerate() {
        if let Err(errno) = run.write(FIRST, "write the bad image", piece, ExpectedOutcome::Either)? {
            refused = Some((at, errno));
            break;
        }
    }
    if let Some((at, errno)) = refused.filter(|_| fault.kind == FaultKind::Long) {
        return excess(at, errno).map(|note| run.note(note)).map_err(StageError::Failed);
    }
    let refused = refused.map(|(_, errno)| errno);
    let left = run.set(FIRST, MigState::STOP, ExpectedOutcome::Either)?;
    match (refused, left) {
        (Some(errno), Err(_)) => {
            run.note(format!("refused when it was written ({errno}), and again when RESUMING was left"));
        },
        (None, Err(errno)) => run.note(format!("refused when RESUMING was left ({errno})")),
        (Some(errno), Ok(())) => {
            let text = format!(
                "The driver refused the image ({errno} to write), and loaded it all the same when RESUMING was left: leaving \
                 it must fail if what was written is invalid."
            );
            let check = "that the VMM resets the device after a failed write; a driver that remembers what it refused";
            run.add_finding(
                ExerciseVerdict::Failed,
                finding("exercise/loaded-after-refusal", FindingSeverity::Error, text, check),
            );
        },
        (None, Ok(())) => accepted(run, fault.kind),
    }
    Ok(())
}

/// Returns a remark about the piece at `at` of a too long image that was refused; an error if it was the first, which
/// is the good image.
fn excess(at: usize, errno: Errno) -> Result<String, String> {
    match at {
        0 => Err(format!(
            "the good image, to which too much was to be added, was refused when it was written ({errno})"
        )),
        _ => Ok(format!("refused when it was written ({errno}), what was too much only")),
    }
}

/// Adds a finding, or a remark, about a wrong image that was accepted.
fn accepted(run: &mut ExerciseRun<'_>, kind: FaultKind) {
    let (verdict, severity, code, text, check) = match kind {
        FaultKind::Body => {
            run.note("accepted: the driver does not notice it, as without a checksum of this byte");
            return;
        },
        FaultKind::Short => (
            ExerciseVerdict::Warned,
            FindingSeverity::Warning,
            "exercise/truncated-accepted",
            "The driver took a truncated image for a whole one.",
            "that the VMM's stream protects itself: what is cut off on the way is not noticed by the driver",
        ),
        FaultKind::Long => (
            ExerciseVerdict::Warned,
            FindingSeverity::Warning,
            "exercise/excess-accepted",
            "The driver took more than an image has, without a complaint.",
            "what it does with the rest",
        ),
        FaultKind::Head => (
            ExerciseVerdict::Warned,
            FindingSeverity::Warning,
            "exercise/damaged-head-accepted",
            "The driver took an image whose first byte was changed: it does not check what it is given.",
            "that only streams of the same driver and version are ever loaded",
        ),
        FaultKind::Foreign => (
            ExerciseVerdict::Failed,
            FindingSeverity::Error,
            "exercise/wrong-device-accepted",
            "The driver took another device's image.",
            "nothing else keeps a VM's device from running with another one's state: the driver must refuse it",
        ),
    };
    run.add_finding(verdict, finding(code, severity, text.to_owned(), check));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_much_is_said_to_be_refused() {
        let image: Vec<u8> = (0..40).collect();
        let faults = make(&image, None, None);
        let long = faults.iter().find(|fault| fault.kind == FaultKind::Long).unwrap();
        assert_eq!(long.pieces[0], image, "what the good one is");
        let said = |at| excess(at, Errno(5));
        assert_eq!(said(1), Ok("refused when it was written (EIO), what was too much only".to_owned()));
        assert!(said(0).unwrap_err().starts_with("the good image, "));
    }

    #[test]
    fn bad_images_are_bad_each_in_its_own_way() {
        let image: Vec<u8> = (0..40).collect();
        let identity = ImageIdentity { name: "dev_id", offset: 12, length: 4 };
        let faults = make(&image, Some(&identity), None);
        let whole = |at: usize| faults[at].pieces.concat();
        assert_eq!(faults.len(), 7);
        assert_eq!((whole(0).len(), whole(1).len(), whole(2).len()), (0, 20, 39));
        assert_eq!((whole(3)[0], &whole(3)[1..]), (1, &image[1..]));
        assert_eq!((whole(4)[39], &whole(4)[..39]), (38, &image[..39]));
        assert_eq!(faults[5].pieces, [image.clone(), vec![0; 64]]);
        assert_eq!((whole(6)[12], &whole(6)[13..]), (0x0c ^ 7, &image[13..]));
        assert_eq!(make(&image, None, None).len(), 6);
        assert_eq!(make(&image, None, Some(&[1, 2])).last().unwrap().pieces, [vec![1, 2]]);
        // Too short to have the member.
        assert_eq!(make(&image[..14], Some(&identity), None).len(), 6);
    }
}
