//! What wasmtime and the compiler take for granted of a machine, on one that has nothing: the one place of
//! the guest with unsafe code.
#![allow(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use hyperlight_common::layout::scratch_allocator_limit_gpa;
use hyperlight_common::vmem::{BasicMapping, MappingKind, PAGE_SIZE};
use hyperlight_guest::{layout, paging, prim_alloc};
use hyperlight_guest_bin::guest_function;
use wasmtime::{Config, CustomCodeMemory, Engine, Module};

use crate::run;

const PAGE: u64 = PAGE_SIZE as u64;

/// Virtual addresses: where code is, and where all other memory that wasmtime asks for begins. Nothing else
/// is near.
const CODE: u64 = 0x2000_0000_0000;
const AREAS: u64 = 0x1000_0000_0000;

/// Code's physical address and its length.
static CODE_AT: AtomicU64 = AtomicU64::new(0);
static CODE_LENGTH: AtomicU64 = AtomicU64::new(0);
/// The first address that no area has.
static NEXT: AtomicU64 = AtomicU64::new(AREAS);

/// [`PREPARE`](agentkernel_hyperlight_guest::PREPARE).
#[guest_function("prepare")]
fn prepare() -> String {
    set_page_fault_handler();
    run::prepare()
}

/// [`LOAD`](agentkernel_hyperlight_guest::LOAD).
#[guest_function("load")]
fn load(address: u64, length: u64, all_at_once: bool) -> String {
    run::load(address, length, all_at_once)
}

/// [`RUN`](agentkernel_hyperlight_guest::RUN).
#[guest_function("run")]
fn run(request: Vec<u8>) -> Vec<u8> {
    run::run(request)
}

/// Tells wasmtime what it can't find out by itself here.
pub(crate) fn configure(config: &mut Config) {
    // SAFETY: it tells of features only that the processor says to have.
    unsafe { config.detect_host_feature(has) };
    config.with_custom_code_memory(Some(alloc::sync::Arc::new(Mapped)));
}

/// Of what code is compiled for, all that needs no more of the guest than that the processor can do it.
fn has(feature: &str) -> Option<bool> {
    let bit = match feature {
        "sse3" => 0,
        "ssse3" => 9,
        "cmpxchg16b" => 13,
        "sse4.1" => 19,
        "sse4.2" => 20,
        "popcnt" => 23,
        _ => return None,
    };
    Some(__cpuid(1).ecx >> bit & 1 == 1)
}

/// Makes the module of the code that the host has mapped at this physical address, all of it at once or
/// page by page.
pub(crate) fn module(
    engine: &Engine,
    address: u64,
    length: u64,
    all_at_once: bool,
) -> wasmtime::Result<Module> {
    CODE_AT.store(address, Ordering::Relaxed);
    CODE_LENGTH.store(length, Ordering::Relaxed);
    if all_at_once {
        (0..length.div_ceil(PAGE)).for_each(|page| map_code(CODE + page * PAGE));
        paging::barrier::first_valid_same_ctx();
    }
    let code = core::ptr::slice_from_raw_parts_mut(CODE as *mut u8, length as usize);
    let code = NonNull::new(code).ok_or_else(|| wasmtime::format_err!("no code"))?;
    // SAFETY: the host has what it maps there from a compiler with the same configuration, and nothing
    // changes or unmaps it for as long as this guest lives.
    unsafe { Module::deserialize_raw(engine, code) }
}

/// How many bytes of memory can still be made.
pub(crate) fn memory_left() -> u64 {
    // SAFETY: hyperlight's own allocator keeps its state there, and this is the only thread.
    let next = unsafe { layout::allocator_gva().read_volatile() };
    scratch_allocator_limit_gpa().saturating_sub(next)
}

/// Code that can be executed where it is.
struct Mapped;

impl CustomCodeMemory for Mapped {
    fn required_alignment(&self) -> usize {
        PAGE_SIZE
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// hyperlight calls the older kind of handler, which may return, if there is no newer one, which may not.
#[allow(deprecated)]
use hyperlight_guest_bin::exception::arch;

fn set_page_fault_handler() {
    /// The number of the exception.
    const PAGE_FAULT: usize = 14;
    let handler = on_page_fault as *const () as u64;
    arch::HANDLERS[PAGE_FAULT].store(handler, Ordering::Release);
}

/// Makes a page where there is to be one. Whether it has tells whether to go on.
#[allow(deprecated)]
fn on_page_fault(
    _: u64,
    info: *mut arch::ExceptionInfo,
    _: *mut arch::Context,
    address: u64,
) -> bool {
    // SAFETY: hyperlight hands over what the processor has pushed.
    let is_there = unsafe { (&raw const (*info).error_code).read_volatile() } & 1 == 1;
    let page = address & !(PAGE - 1);
    let areas = AREAS..NEXT.load(Ordering::Relaxed);
    let code = CODE..CODE + CODE_LENGTH.load(Ordering::Relaxed);
    match () {
        () if is_there => false,
        () if areas.contains(&page) => {
            map(page, new_page(), Access::Write);
            true
        }
        () if code.contains(&page) => {
            map_code(page);
            true
        }
        () => false,
    }
}

fn map_code(page: u64) {
    map(page, CODE_AT.load(Ordering::Relaxed) + (page - CODE), Access::Execute);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Execute,
}

/// A page of zeroes. If there is none, the guest dies of it.
fn new_page() -> u64 {
    // SAFETY: hyperlight has set its allocator up before it called anything here. It gives each page once,
    // and the host has zeroed them all.
    unsafe { prim_alloc::alloc_phys_pages(1) }
}

fn map(page: u64, physical: u64, access: Access) {
    let mapping = BasicMapping {
        readable: true,
        writable: access == Access::Write,
        executable: access == Access::Execute,
    };
    // SAFETY: nothing is at `page` so far, so that no reference can lead there; this is the only thread.
    unsafe { paging::map_region(physical, page as *mut u8, PAGE, MappingKind::Basic(mapping)) };
}

/// wasmtime's one variable of a thread.
static THREAD: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

// What wasmtime asks of a system without an operating system. It declares these functions itself, in
// src/runtime/vm/sys/custom/capi.rs.

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(_: usize) -> *mut u8 {
    THREAD.load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(_: usize, value: *mut u8) {
    THREAD.store(value, Ordering::Relaxed);
}

/// Sets addresses aside, which pages come to when they are touched.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_new(size: usize, _: u32, to: &mut *mut u8) -> i32 {
    /// Between areas, so that who leaves one gets to no other.
    const BETWEEN: u64 = 1 << 20;
    let size = (size as u64).next_multiple_of(PAGE);
    let start = NEXT.load(Ordering::Relaxed);
    match start.checked_add(size).and_then(|end| end.checked_add(BETWEEN)) {
        Some(next) if next <= CODE => {
            NEXT.store(next, Ordering::Relaxed);
            *to = start as *mut u8;
            0
        }
        _ => 1,
    }
}

/// Nothing is ever mapped anew: memories have no images.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_remap(_: *mut u8, _: usize, _: u32) -> i32 {
    1
}

/// The guest is gone before its addresses are used up; their pages are not used again.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_munmap(_: *mut u8, _: usize) -> i32 {
    0
}

/// Code checks each access by itself, so that nobody relies on a fault.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mprotect(_: *mut u8, _: usize, _: u32) -> i32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_page_size() -> usize {
    PAGE_SIZE
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_new(_: *const u8, _: usize, image: &mut *mut u8) -> i32 {
    *image = core::ptr::null_mut();
    0
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_map_at(_: *mut u8, _: *mut u8, _: usize) -> i32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_free(_: *mut u8) {}

// What the compiler takes for granted. The C library has these elsewhere. None of them may be written in a
// way that the compiler takes for a call of itself, so they are the processor's own instructions.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise is C's. The direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: the beginning of `to` is not in `from`, so that going upwards reads before it writes.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the caller's promise is C's. Both end below `len`, which is not 0 here, and the direction flag
    // is cleared again.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") len => _,
            inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _,
            options(nostack)
        );
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise is C's. The direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosq",
            "mov rcx, {rest}",
            "rep stosb",
            rest = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rdi") to => _,
            in("rax") u64::from_ne_bytes([byte as u8; 8]),
            options(nostack, preserves_flags)
        );
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller's promise is C's, that both are `len` bytes long. A volatile read is not taken
        // for a part of `memcmp`.
        let (one, other) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { memcmp(one, other, len) }
}

/// Nothing is ever unwound: a panic ends the guest. But the compiled core names these.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}
