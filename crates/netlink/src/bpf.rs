//! Programs of the kernel's virtual machine: loading them, finding them again, and which one waits
//! at a link (bpf(2), linux/bpf.h).

use std::{
    ffi::CStr,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    str::FromStr,
};

use super::Error;

/// Commands of bpf(2).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
/// The program type of traffic control's classifiers.
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// The attachment point tcx/ingress (Linux 6.6).
const BPF_TCX_INGRESS: u32 = 46;
/// The longest name of a program, with its NUL (BPF_OBJ_NAME_LEN).
const NAME_LENGTH: usize = 16;
/// For the verifier's words about a program that it refuses.
const LOG_LENGTH: usize = 64 * 1024;

/// The kernel's fingerprint of a program: of its instructions, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub [u8; 8]);

impl fmt::Display for Tag {
    /// As `tc` and `bpftool` print it: 16 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Tag {
    type Err = ();

    /// What [`fmt::Display`] printed.
    fn from_str(text: &str) -> Result<Self, ()> {
        // from_str_radix takes a sign, too.
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16));
        let number = number.and_then(Result::ok).ok_or(())?;
        Ok(Tag(number.to_be_bytes()))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A classifier that the kernel has taken. It lives for as long as this is open or a filter has it.
#[derive(Debug)]
pub struct Program {
    descriptor: OwnedFd,
    /// Its number, by which it can be found again for as long as it lives. Given in turn, so that
    /// the number of one that has gone comes back late.
    pub id: u32,
    /// What it consists of.
    pub tag: Tag,
}

impl Program {
    /// Has the kernel verify and take a classifier of these instructions (struct bpf_insn, eight
    /// bytes each, as the machine orders them).
    ///
    /// # Errors
    /// No permission (CAP_BPF, CAP_PERFMON), no BPF in the kernel, or the verifier's refusal with
    /// its last words.
    pub fn load(name: &str, license: &CStr, instructions: &[[u8; 8]]) -> Result<Program, Error> {
        let operation = || format!("load the BPF program {name}");
        let mut attribute = Load {
            prog_type: BPF_PROG_TYPE_SCHED_CLS,
            insn_cnt: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
            insns: address(instructions.as_ptr()),
            license: address(license.as_ptr()),
            ..Load::default()
        };
        let kept = name.len().min(NAME_LENGTH - 1);
        attribute.prog_name[..kept].copy_from_slice(&name.as_bytes()[..kept]);
        let cause = match descriptor(BPF_PROG_LOAD, &mut attribute) {
            Ok(descriptor) => return Program::of(descriptor).map_err(with(operation())),
            Err(cause) => cause,
        };
        // A log is costly to write, and only asked for when there is something to say.
        let mut log = vec![0u8; LOG_LENGTH];
        attribute.log_level = 1;
        attribute.log_size = LOG_LENGTH as u32;
        attribute.log_buf = address(log.as_mut_ptr());
        match descriptor(BPF_PROG_LOAD, &mut attribute) {
            // EAGAIN and the like, gone by now.
            Ok(descriptor) => Program::of(descriptor).map_err(with(operation())),
            Err(_) => Err(Error::Refused {
                operation: operation(),
                cause,
                detail: last_words(&log),
            }),
        }
    }

    /// The program of that number; None if there is no such program any more, or it is of another
    /// kind.
    ///
    /// # Errors
    /// No permission (CAP_SYS_ADMIN).
    pub fn by_id(id: u32) -> Result<Option<Program>, Error> {
        let operation = || format!("open the BPF program {id}");
        let mut attribute = GetById {
            id,
            ..GetById::default()
        };
        let descriptor = match descriptor(BPF_PROG_GET_FD_BY_ID, &mut attribute) {
            Ok(descriptor) => descriptor,
            Err(cause) if cause.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(cause) => return Err(Error::system(operation(), cause)),
        };
        match info(&descriptor) {
            Ok(info) if info.prog_type != BPF_PROG_TYPE_SCHED_CLS => Ok(None),
            Ok(info) => Ok(Some(Program {
                descriptor,
                id: info.id,
                tag: Tag(info.tag),
            })),
            Err(cause) => Err(Error::system(operation(), cause)),
        }
    }

    fn of(descriptor: OwnedFd) -> io::Result<Program> {
        let Info { id, tag, .. } = info(&descriptor)?;
        Ok(Program {
            descriptor,
            id,
            tag: Tag(tag),
        })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn with(operation: String) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::system(operation, cause)
}

/// The last line of the verifier's log but its statistics: why it refused.
fn last_words(log: &[u8]) -> Option<String> {
    let text = log.split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with("processed "))?;
    Some(line.to_owned())
}

/// The id of the first program at tcx/ingress of a link; None if there is none, or no such link.
///
/// The calling thread has to be in the link's namespace: bpf(2) looks in the thread's own.
pub(super) fn at_tcx_ingress(link: u32) -> io::Result<Option<u32>> {
    let mut first = 0u32;
    let mut query = ProgQuery {
        target_ifindex: link,
        attach_type: BPF_TCX_INGRESS,
        prog_ids: address(&raw mut first),
        count: 1,
        ..ProgQuery::default()
    };
    let result = call(BPF_PROG_QUERY, &mut query);
    // SAFETY: `first` is a live, initialised local. Read this way because the kernel wrote it
    // through an address that the compiler saw only as a number.
    let id = unsafe { ptr::read_volatile(&raw const first) };
    match result {
        Ok(_) => Ok((id != 0).then_some(id)),
        Err(cause) => match cause.raw_os_error() {
            // There are more; the first is enough.
            Some(libc::ENOSPC) => Ok(Some(id)),
            // Nothing attached; no such link; no tcx in this kernel (EINVAL); no BPF (ENOSYS).
            Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::ENOSYS) => Ok(None),
            _ => Err(cause),
        },
    }
}

/// The members of `union bpf_attr` that are used here, each with what it begins with. The kernel
/// takes shorter ones than its own, and fills up with zeroes.
///
/// # Safety
/// `repr(C)`, without padding, and laid out as the kernel's. Each member that is an address is that
/// of memory as long as the member beside it says, which outlives the call.
unsafe trait Attribute {}

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LENGTH],
}
// SAFETY: laid out as the anonymous struct of BPF_PROG_LOAD. Its maker, `Program::load`, borrows what
// its addresses lead to for as long as the calls take.
unsafe impl Attribute for Load {}

#[repr(C)]
#[derive(Default)]
struct GetById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}
// SAFETY: laid out as the anonymous struct of BPF_*_GET_*_ID; no addresses.
unsafe impl Attribute for GetById {}

#[repr(C)]
struct InfoByFd {
    descriptor: u32,
    length: u32,
    info: u64,
}
// SAFETY: laid out as the member `info`. Its maker, `info`, owns the struct that it leads to.
unsafe impl Attribute for InfoByFd {}

#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}
// SAFETY: laid out as the member `query`. Its maker, `at_tcx_ingress`, owns the one number that it
// says there is room for.
unsafe impl Attribute for ProgQuery {}

/// The beginning of struct bpf_prog_info.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Info {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
}

fn info(program: &OwnedFd) -> io::Result<Info> {
    let mut info = Info::default();
    let mut attribute = InfoByFd {
        descriptor: program.as_raw_fd().cast_unsigned(),
        length: size_of::<Info>() as u32,
        info: address(&raw mut info),
    };
    call(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    // SAFETY: `info` is a live, initialised local of plain numbers. Read this way because the kernel
    // wrote it through an address that the compiler saw only as a number.
    Ok(unsafe { ptr::read_volatile(&raw const info) })
}

/// A call that opens something.
fn descriptor<T: Attribute>(command: libc::c_long, attribute: &mut T) -> io::Result<OwnedFd> {
    let opened = call(command, attribute)?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec, as all of bpf(2)); nothing
    // else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

fn call<T: Attribute>(command: libc::c_long, attribute: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attribute` is what `Attribute` promises, its true size is passed, and it is borrowed
    // for as long as the call takes.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attribute as *mut T, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as libc::c_int)
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::test_support::in_fresh_netns;

    /// r0 = -1 (TC_ACT_UNSPEC: go on); exit
    pub(crate) const PASS: [[u8; 8]; 2] = [
        [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ];

    #[test]
    fn a_program_is_found_by_its_number_for_as_long_as_it_lives() {
        let program = Program::load("test_program_with_a_long_name", c"GPL", &PASS).unwrap();
        let found = Program::by_id(program.id).unwrap().unwrap();
        assert_eq!((found.id, found.tag), (program.id, program.tag));
        let again = Program::load("another", c"GPL", &PASS).unwrap();
        assert_ne!(again.id, program.id);
        assert_eq!(again.tag, program.tag, "the same instructions");
        assert_eq!(program.tag.to_string().len(), 16);
        let id = program.id;
        drop((program, found));
        // It goes a little after the last descriptor.
        crate::test_support::until("the program goes", || {
            Program::by_id(id).unwrap().is_none().then_some(())
        });
    }

    #[test]
    fn a_tag_is_read_as_it_is_printed() {
        let tag = Tag([0, 1, 2, 0xfc, 0xfd, 0xfe, 0xff, 9]);
        assert_eq!(tag.to_string(), "000102fcfdfeff09");
        assert_eq!(tag.to_string().parse(), Ok(tag));
        for not in [
            "",
            "000102fcfdfeff0",
            "000102fcfdfeff0x",
            "+00102fcfdfeff09",
        ] {
            let parsed: Result<Tag, ()> = not.parse();
            assert!(parsed.is_err(), "{not}");
        }
    }

    #[test]
    fn a_refusal_has_the_verifiers_words() {
        // exit, without a result in r0
        let error = Program::load("refused", c"GPL", &PASS[1..]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("R0 !read_ok"), "{text}");
        assert_eq!(error.errno(), Some(libc::EACCES), "{text}");
    }

    #[test]
    fn a_program_that_is_no_classifier_is_not_taken_for_one() {
        // BPF_PROG_TYPE_SOCKET_FILTER
        let mut attribute = Load {
            prog_type: 1,
            insn_cnt: 2,
            insns: address(PASS.as_ptr()),
            license: address(c"GPL".as_ptr()),
            ..Load::default()
        };
        let other = descriptor(BPF_PROG_LOAD, &mut attribute).unwrap();
        let id = info(&other).unwrap().id;
        assert!(Program::by_id(id).unwrap().is_none());
    }

    #[test]
    fn a_missing_link_has_no_program() {
        in_fresh_netns(|| assert_eq!(at_tcx_ingress(4711).unwrap(), None));
    }

    #[test]
    fn the_last_words_leave_statistics_out() {
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\0\0";
        assert_eq!(last_words(log).as_deref(), Some("R0 !read_ok"));
        assert_eq!(last_words(&[0; 8]), None);
    }
}
