//! The bpf(2) commands that aya does not offer, each behind a safe function.
//!
//! Source: the kernel's `include/uapi/linux/bpf.h` and "bpf(2)".

#![expect(
    unsafe_code,
    reason = "this module is the boundary to the bpf system call, and to those on namespaces"
)]

use std::{
    ffi::CString,
    io,
    mem::zeroed,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr, thread,
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info, bpf_map_type, bpf_prog_info,
};
use ipfilter_ebpf::abi;
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

/// A type of the BPF interface that aya may copy to and from the kernel byte by byte.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Raw<T>(pub(super) T);

macro_rules! raw {
    ($($shared:ty),+) => {
        $(
            // SAFETY: the type is `repr(C)`, made of integers only and without padding, which the
            // assertions in `abi` hold it to, so that any bytes are a valid value of it.
            unsafe impl aya::Pod for Raw<$shared> {}
        )+
    };
}

raw!(
    abi::AddressKey,
    abi::ApiSet,
    abi::Caller,
    abi::CallerKey,
    abi::Config,
    abi::Interfaces,
    abi::Reports,
    abi::Response,
    abi::Row,
    abi::TopSource,
    ipfilter_ebpf::reply::Key
);

/// Makes a map read-only for userspace, for good (kernel 5.2).
pub(super) fn freeze(map: impl AsFd) -> io::Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = raw_fd(map.as_fd());
    bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// Copies `words` into an array map, whose values are a word or a whole number of words each and lie one
/// behind the other, through a memory map: one call instead of one for each (kernel 5.5). The memory map is gone when it returns, so the map can be frozen.
pub(super) fn fill(map: impl AsFd, words: &[u64]) -> io::Result<()> {
    let length = size_of_val(words);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice, touches no memory that is in use.
    let place = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            protection,
            MapFlags::SHARED,
            map,
            0,
        )?
    };
    // SAFETY: the mapping is `length` bytes long, as `words` is; it begins at a page, so it is aligned;
    // nobody else has it, so it does not overlap `words`.
    unsafe { ptr::copy_nonoverlapping(words.as_ptr(), place.cast(), words.len()) };
    // SAFETY: it is the mapping made above, and `place` is not used again.
    unsafe { munmap(place, length)? };
    Ok(())
}

/// The first `count` words of an array map, as [`fill`] has them.
pub(super) fn read_words(map: impl AsFd, count: usize) -> io::Result<Vec<u64>> {
    let length = count * size_of::<u64>();
    // SAFETY: a new mapping, at an address of the kernel's choice, touches no memory that is in use.
    let place = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::SHARED,
            map,
            0,
        )?
    };
    let mut words = vec![0_u64; count];
    // SAFETY: the mapping is `length` bytes long, as `words` is; it begins at a page, so it is aligned;
    // `words` is new, so they do not overlap.
    unsafe { ptr::copy_nonoverlapping(place.cast(), words.as_mut_ptr(), count) };
    // SAFETY: it is the mapping made above, and `place` is not used again.
    unsafe { munmap(place, length)? };
    Ok(words)
}

/// Puts entries into a map, all by one call (kernel 5.6; which kinds of map take it depends on the
/// kernel). If that fails, some may be in it.
pub(super) fn update_batch<K: aya::Pod, V: aya::Pod>(
    map: impl AsFd,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    let count = u32::try_from(keys.len()).map_err(io::Error::other)?;
    if values.len() != keys.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut attr = empty();
    attr.batch.map_fd = raw_fd(map.as_fd());
    attr.batch.keys = keys.as_ptr().expose_provenance() as u64;
    attr.batch.values = values.as_ptr().expose_provenance() as u64;
    attr.batch.count = count;
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Attaches a program to an interface by a link (XDP: kernel 5.9, tcx: kernel 6.6).
pub(super) fn link_create(
    program: impl AsFd,
    ifindex: u32,
    attach_type: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = raw_fd(program.as_fd());
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Puts another program behind a link, atomically: a packet meets the old one or the new one.
pub(super) fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr = empty();
    attr.link_update.link_fd = raw_fd(link.as_fd());
    attr.link_update.__bindgen_anon_1.new_prog_fd = raw_fd(program.as_fd());
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link from its interface, no matter who holds it (kernel 5.9). It can't be attached again.
pub(super) fn link_detach(link: impl AsFd) -> io::Result<()> {
    let mut attr = empty();
    attr.link_detach.link_fd = raw_fd(link.as_fd());
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Pins a link or a map.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = empty();
    attr.__bindgen_anon_4.bpf_fd = raw_fd(object.as_fd());
    attr.__bindgen_anon_4.pathname = path.as_ptr().expose_provenance() as u64;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens what is pinned.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr().expose_provenance() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(Into::into)
}

/// The kinds of objects that can be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Link,
    Map,
    Program,
}

/// What an open object is, and the id that the kernel gave it.
pub(super) fn identity(object: impl AsFd) -> io::Result<(Kind, u32)> {
    let fd = object.as_fd();
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let kind = match name.to_str() {
        Some("anon_inode:bpf-link" | "anon_inode:bpf_link") => Kind::Link,
        Some("anon_inode:bpf-map") => Kind::Map,
        Some("anon_inode:bpf-prog") => Kind::Program,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    // The information on all of them begins with a type and an id.
    let mut info = [0_u32; 64];
    info_by_fd(fd, &mut info)?;
    let [_, id, ..] = info;
    Ok((kind, id))
}

/// The name of a program, as far as the kernel keeps it.
pub(super) fn program_name(program: impl AsFd) -> io::Result<String> {
    // SAFETY: the type is plain integers; all zero is a valid value.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    info_by_fd(program.as_fd(), &mut info)?;
    // Signed on some architectures only.
    let bytes = info.name.map(|c| {
        let [byte] = c.to_ne_bytes();
        byte
    });
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// What the kernel has made of a program, an instruction a word, and the ids of the maps it uses.
pub(super) fn translated(program: impl AsFd) -> io::Result<(Vec<u64>, Vec<u32>)> {
    // SAFETY: the type is plain integers; all zero is a valid value.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    info_by_fd(program.as_fd(), &mut info)?;
    let mut instructions = vec![0_u64; info.xlated_prog_len as usize / size_of::<u64>()];
    let mut maps = vec![0_u32; info.nr_map_ids as usize];
    // SAFETY: as above.
    let mut asked: bpf_prog_info = unsafe { zeroed() };
    asked.xlated_prog_len = info.xlated_prog_len;
    asked.xlated_prog_insns = instructions.as_mut_ptr().expose_provenance() as u64;
    asked.nr_map_ids = info.nr_map_ids;
    asked.map_ids = maps.as_mut_ptr().expose_provenance() as u64;
    info_by_fd(program.as_fd(), &mut asked)?;
    Ok((instructions, maps))
}

/// A map by the id the kernel gave it.
pub(super) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
    bpf(bpf_cmd::BPF_MAP_GET_FD_BY_ID, &mut attr).map(owned)
}

/// How a map's values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapShape {
    /// Bytes of a value.
    pub(super) value_size: u32,
    /// Whether each CPU has values of its own.
    pub(super) per_cpu: bool,
}

/// Asks how a map's values lie.
pub(super) fn map_shape(map: impl AsFd) -> io::Result<MapShape> {
    // SAFETY: the type is plain integers; all zero is a valid value.
    let mut info: bpf_map_info = unsafe { zeroed() };
    info_by_fd(map.as_fd(), &mut info)?;
    Ok(MapShape {
        value_size: info.value_size,
        per_cpu: info.type_ == bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32,
    })
}

/// Reads one value of a map that is not per CPU. `value` has room for it, and `key` is one.
pub(super) fn lookup(map: impl AsFd, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = raw_fd(map.as_fd());
    attr.__bindgen_anon_2.key = key.as_ptr().expose_provenance() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr().expose_provenance() as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The program behind it.
    pub(super) program: u32,
    /// The interface it is on; 0 once that is gone.
    pub(super) ifindex: u32,
}

/// Asks what a link to an interface holds. The interface's number stands in the same place for XDP
/// and tcx links.
pub(super) fn link_info(link: impl AsFd) -> io::Result<LinkInfo> {
    // SAFETY: the type is plain integers; all zero is a valid value.
    let mut info: bpf_link_info = unsafe { zeroed() };
    info_by_fd(link.as_fd(), &mut info)?;
    Ok(LinkInfo {
        program: info.prog_id,
        // SAFETY: the kernel has filled the union's `xdp` part, or its `tcx` part, which begins
        // with the same `u32`; both are integers.
        ifindex: unsafe { info.__bindgen_anon_1.xdp.ifindex },
    })
}

/// A program by the id the kernel gave it.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
}

/// What came of a test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    /// What the program returned.
    pub(super) value: u32,
    /// The size of the frame it left, in bytes.
    pub(super) size: usize,
}

/// Runs a program once on `frame`, and writes the frame that it leaves to `out`.
pub(super) fn test_run(program: impl AsFd, frame: &[u8], out: &mut [u8]) -> io::Result<Ran> {
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
    let mut attr = empty();
    attr.test.prog_fd = raw_fd(program.as_fd());
    attr.test.data_size_in = size(frame)?;
    attr.test.data_in = frame.as_ptr().expose_provenance() as u64;
    attr.test.data_size_out = size(out)?;
    attr.test.data_out = out.as_mut_ptr().expose_provenance() as u64;
    attr.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: the kernel has filled the union's `test` part, which is plain integers.
    let test = unsafe { attr.test };
    Ok(Ran {
        value: test.retval,
        size: test.data_size_out as usize,
    })
}

/// All entries of a hash map of at most `most`, at once (kernel 5.6): asked for one by one, they change
/// places meanwhile. `K` and `V` are the types of the map's keys and values.
pub(super) fn lookup_all<K, V>(map: impl AsFd, most: usize) -> io::Result<Vec<(K, V)>>
where
    Raw<K>: aya::Pod,
    Raw<V>: aya::Pod,
{
    let mut keys = Vec::<Raw<K>>::with_capacity(most);
    let mut values = Vec::<Raw<V>>::with_capacity(most);
    // Where a next call would go on, which there is none of.
    let mut next = 0_u32;
    let mut attr = empty();
    attr.batch.map_fd = raw_fd(map.as_fd());
    attr.batch.out_batch = ptr::from_mut(&mut next).expose_provenance() as u64;
    attr.batch.keys = keys.as_mut_ptr().expose_provenance() as u64;
    attr.batch.values = values.as_mut_ptr().expose_provenance() as u64;
    attr.batch.count = u32::try_from(most).map_err(io::Error::other)?;
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // There were no more.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // SAFETY: the kernel has filled the union's `batch` part, which is plain integers.
    let found = unsafe { attr.batch.count } as usize;
    // SAFETY: the kernel has written that many keys and values, and `found` is at most `most`, which
    // both have room for; any bytes are a valid value of either type.
    unsafe {
        keys.set_len(found.min(most));
        values.set_len(found.min(most));
    }
    let entries = keys.into_iter().zip(values);
    Ok(entries.map(|(Raw(key), Raw(value))| (key, value)).collect())
}

/// All entries of a map that nobody writes to, `size` at once (kernel 5.6; which kinds of map take it depends
/// on the kernel).
pub(super) fn lookup_batches<K: aya::Pod, V: aya::Pod>(
    map: impl AsFd,
    size: usize,
) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    // Where a call ended, and where the next one goes on: a key, or less.
    let mut places = [[0_u64; 4]; 2];
    if size_of::<K>() > size_of_val(&places[0]) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut is_first = true;
    loop {
        let mut keys = Vec::<K>::with_capacity(size);
        let mut values = Vec::<V>::with_capacity(size);
        let [last, next] = &mut places;
        let mut attr = empty();
        attr.batch.map_fd = raw_fd(map.as_fd());
        if !is_first {
            attr.batch.in_batch = last.as_ptr().expose_provenance() as u64;
        }
        attr.batch.out_batch = next.as_mut_ptr().expose_provenance() as u64;
        attr.batch.keys = keys.as_mut_ptr().expose_provenance() as u64;
        attr.batch.values = values.as_mut_ptr().expose_provenance() as u64;
        attr.batch.count = u32::try_from(size).map_err(io::Error::other)?;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        let is_last = match result {
            Ok(_) => false,
            // There were no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has filled the union's `batch` part, which is plain integers.
        let found = unsafe { attr.batch.count } as usize;
        // SAFETY: the kernel has written that many keys and values, and `found` is at most `size`, which
        // both have room for; any bytes are a valid value of either type.
        unsafe {
            keys.set_len(found.min(size));
            values.set_len(found.min(size));
        }
        entries.extend(keys.into_iter().zip(values));
        if is_last {
            return Ok(entries);
        }
        places.swap(0, 1);
        is_first = false;
    }
}

/// The event that `bytes` of a ring are.
pub(super) fn read_event(bytes: &[u8]) -> Option<abi::Event> {
    let bytes = bytes.first_chunk::<{ size_of::<abi::Event>() }>()?;
    // SAFETY: there are as many bytes as the type has, and any bytes are a valid value of it; the
    // read does not ask for alignment.
    Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// Fills `info`, which is one of the kernel's information types or an array of integers: any bytes
/// are a valid value of it.
fn info_by_fd<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = empty();
    attr.info.bpf_fd = raw_fd(fd);
    attr.info.info_len = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
    attr.info.info = ptr::from_mut(info).expose_provenance() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// Runs `what` in another mount namespace, on a thread that ends with it.
pub(super) fn in_mount_namespace<T: Send>(
    namespace: impl AsFd + Sync,
    what: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let entered = || {
        // SAFETY: descriptors stay shared. The thread gets a root and a working directory of its own,
        // without which it may not leave its namespace, and which nobody else sees.
        unsafe { unshare_unsafe(UnshareFlags::FS)? };
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(what())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, entered)?;
        let failed = |_| Err(io::Error::other("the thread in the namespace failed"));
        thread.join().unwrap_or_else(failed)
    })
}

fn empty() -> bpf_attr {
    // SAFETY: the union is plain integers; all zero is a valid value, and means "not set".
    unsafe { zeroed() }
}

#[expect(clippy::cast_sign_loss, reason = "an open descriptor is not negative")]
fn raw_fd(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers pass what a bpf command that creates a descriptor has just returned, so
    // it is open and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: `attr` is a whole, initialised attribute union for as long as the call lasts; every
    // pointer in it was set by a function above, from a reference that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    match RawFd::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
