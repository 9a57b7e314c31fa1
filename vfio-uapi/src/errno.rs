//! Names of error numbers.

/// The numbers of include/uapi/asm-generic/errno-base.h and errno.h, which x86_64 and arm64 use, and the kernel-internal ones
/// of include/linux/errno.h (6.1): a probe sees those before they are turned into others. Sorted.
const NAMES: &[(i32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (7, "E2BIG"),
    (8, "ENOEXEC"),
    (9, "EBADF"),
    (10, "ECHILD"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (15, "ENOTBLK"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (25, "ENOTTY"),
    (26, "ETXTBSY"),
    (27, "EFBIG"),
    (28, "ENOSPC"),
    (29, "ESPIPE"),
    (30, "EROFS"),
    (31, "EMLINK"),
    (32, "EPIPE"),
    (33, "EDOM"),
    (34, "ERANGE"),
    (35, "EDEADLK"),
    (36, "ENAMETOOLONG"),
    (37, "ENOLCK"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (42, "ENOMSG"),
    (43, "EIDRM"),
    (44, "ECHRNG"),
    (45, "EL2NSYNC"),
    (46, "EL3HLT"),
    (47, "EL3RST"),
    (48, "ELNRNG"),
    (49, "EUNATCH"),
    (50, "ENOCSI"),
    (51, "EL2HLT"),
    (52, "EBADE"),
    (53, "EBADR"),
    (54, "EXFULL"),
    (55, "ENOANO"),
    (56, "EBADRQC"),
    (57, "EBADSLT"),
    (59, "EBFONT"),
    (60, "ENOSTR"),
    (61, "ENODATA"),
    (62, "ETIME"),
    (63, "ENOSR"),
    (64, "ENONET"),
    (65, "ENOPKG"),
    (66, "EREMOTE"),
    (67, "ENOLINK"),
    (68, "EADV"),
    (69, "ESRMNT"),
    (70, "ECOMM"),
    (71, "EPROTO"),
    (72, "EMULTIHOP"),
    (73, "EDOTDOT"),
    (74, "EBADMSG"),
    (75, "EOVERFLOW"),
    (76, "ENOTUNIQ"),
    (77, "EBADFD"),
    (78, "EREMCHG"),
    (79, "ELIBACC"),
    (80, "ELIBBAD"),
    (81, "ELIBSCN"),
    (82, "ELIBMAX"),
    (83, "ELIBEXEC"),
    (84, "EILSEQ"),
    (85, "ERESTART"),
    (86, "ESTRPIPE"),
    (87, "EUSERS"),
    (88, "ENOTSOCK"),
    (89, "EDESTADDRREQ"),
    (90, "EMSGSIZE"),
    (91, "EPROTOTYPE"),
    (92, "ENOPROTOOPT"),
    (93, "EPROTONOSUPPORT"),
    (94, "ESOCKTNOSUPPORT"),
    (95, "EOPNOTSUPP"),
    (96, "EPFNOSUPPORT"),
    (97, "EAFNOSUPPORT"),
    (98, "EADDRINUSE"),
    (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (102, "ENETRESET"),
    (103, "ECONNABORTED"),
    (104, "ECONNRESET"),
    (105, "ENOBUFS"),
    (106, "EISCONN"),
    (107, "ENOTCONN"),
    (108, "ESHUTDOWN"),
    (109, "ETOOMANYREFS"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (112, "EHOSTDOWN"),
    (113, "EHOSTUNREACH"),
    (114, "EALREADY"),
    (115, "EINPROGRESS"),
    (116, "ESTALE"),
    (117, "EUCLEAN"),
    (118, "ENOTNAM"),
    (119, "ENAVAIL"),
    (120, "EISNAM"),
    (121, "EREMOTEIO"),
    (122, "EDQUOT"),
    (123, "ENOMEDIUM"),
    (124, "EMEDIUMTYPE"),
    (125, "ECANCELED"),
    (126, "ENOKEY"),
    (127, "EKEYEXPIRED"),
    (128, "EKEYREVOKED"),
    (129, "EKEYREJECTED"),
    (130, "EOWNERDEAD"),
    (131, "ENOTRECOVERABLE"),
    (132, "ERFKILL"),
    (133, "EHWPOISON"),
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (515, "ENOIOCTLCMD"),
    (516, "ERESTART_RESTARTBLOCK"),
    (517, "EPROBE_DEFER"),
    (518, "EOPENSTALE"),
    (519, "ENOPARAM"),
    (521, "EBADHANDLE"),
    (522, "ENOTSYNC"),
    (523, "EBADCOOKIE"),
    (524, "ENOTSUPP"),
    (525, "ETOOSMALL"),
    (526, "ESERVERFAULT"),
    (527, "EBADTYPE"),
    (528, "EJUKEBOX"),
    (529, "EIOCBQUEUED"),
    (530, "ERECALLCONFLICT"),
    (531, "ENOGRACE"),
];

/// Returns the name of an error number (positive: the kernel's `-ret`), `None` for what is no error number.
pub fn name(number: i32) -> Option<&'static str> {
    let at = NAMES.binary_search_by_key(&number, |(known, _)| *known).ok()?;
    NAMES.get(at).map(|(_, name)| *name)
}

/// Returns the error number of a name.
pub fn number(name: &str) -> Option<i32> {
    // Two names for one number in Linux.
    let name = match name {
        "EWOULDBLOCK" => "EAGAIN",
        "ENOTSUP" => "EOPNOTSUPP",
        other => other,
    };
    NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        let known = [
            (1, "EPERM"),
            (22, "EINVAL"),
            (42, "ENOMSG"),
            (19, "ENODEV"),
            (110, "ETIMEDOUT"),
            (133, "EHWPOISON"),
        ];
        let internal = [(512, "ERESTARTSYS"), (515, "ENOIOCTLCMD"), (517, "EPROBE_DEFER"), (524, "ENOTSUPP")];
        for (number, text) in known.into_iter().chain(internal) {
            assert_eq!(name(number), Some(text));
        }
        // 41 and 58 are EWOULDBLOCK and EDEADLOCK of other architectures.
        let unnamed: Vec<_> = (0..=133).filter(|&number| name(number).is_none()).collect();
        assert_eq!(unnamed, [0, 41, 58]);
        assert_eq!((name(-22), name(134), name(532)), (None, None, None));
    }

    #[test]
    fn numbers_are_those_of_this_system() {
        assert_eq!(name(rustix::io::Errno::INVAL.raw_os_error()), Some("EINVAL"));
        assert_eq!(number("ENOMSG"), Some(rustix::io::Errno::NOMSG.raw_os_error()));
        assert_eq!((number("ENOTSUP"), number("EWOULDBLOCK"), number("EWHAT")), (Some(95), Some(11), None));
        assert!(NAMES.iter().is_sorted_by(|one, other| one.0 < other.0));
    }

    /// Compares with the C compiler's headers, which every machine that links programs has.
    #[test]
    fn the_table_is_that_of_the_headers() {
        let mut theirs = Vec::new();
        for file in ["errno-base.h", "errno.h"] {
            let path = format!("/usr/include/asm-generic/{file}");
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{path} (package linux-libc-dev): {error}"));
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [define, name, value, ..] = words[..] else { continue };
                if define != "#define" {
                    continue;
                }
                match value.parse::<i32>() {
                    Ok(number) => theirs.push((number, name.to_owned())),
                    // A second name for a number: need not be known, but must not be another's.
                    Err(_) => {
                        assert!(number(name).is_none_or(|known| Some(known) == number(value)), "{line}");
                    },
                }
            }
        }
        theirs.sort();
        // Later headers may have more behind our last.
        let ours: Vec<_> = NAMES
            .iter()
            .filter(|(number, _)| *number < 512)
            .map(|&(number, name)| (number, name.to_owned()))
            .collect();
        theirs.truncate(ours.len());
        assert_eq!(ours, theirs);
    }
}
