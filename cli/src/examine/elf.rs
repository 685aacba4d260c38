//! What an ELF file is, seen from a library that wants to be preloaded into it. Pure: bytes in, kind out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};

/// The machine that this command, and so the library beside it, was built for.
const MACHINE: elf::Machine = if cfg!(target_arch = "x86_64") {
    elf::EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else {
    elf::EM_NONE
};

/// The kinds of ELF file that are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program that the named loader starts: what preloading is made for.
    Dynamic {
        /// The path in its PT_INTERP.
        loader: OsString,
    },
    /// glibc's loader itself, which can be run as a command and preloads then too.
    Loader,
    /// A statically linked program.
    Static {
        /// A static-pie: it has a dynamic section, but still asks for no loader.
        pie: bool,
    },
    /// A program by the Go compiler, linked in whichever way.
    Go,
    /// A shared library.
    Library,
    /// A program for another machine, or of another word size.
    Foreign {
        /// The machine, in words.
        machine: String,
    },
    /// An object file or a core dump.
    NotAProgram,
    /// The header says ELF, but the rest makes no sense.
    Damaged,
}

/// The kind of a file, `None` if it is no ELF file at all.
pub fn classify<'data>(data: impl ReadRef<'data>) -> Option<Kind> {
    let magic = data.read_bytes_at(0, 4).ok()?;
    if magic != elf::ELFMAG {
        return None;
    }
    let kind = if let Ok(header) = FileHeader64::<Endianness>::parse(data) {
        kind_of(header, data)
    } else if let Ok(header) = FileHeader32::<Endianness>::parse(data) {
        kind_of(header, data)
    } else {
        None
    };
    Some(kind.unwrap_or(Kind::Damaged))
}

/// The kind by header and segments, `None` where they point outside the file.
fn kind_of<'data, H, R>(header: &H, data: R) -> Option<Kind>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let endian = header.endian().ok()?;
    let machine = header.e_machine(endian);
    let native = if cfg!(target_endian = "little") {
        header.is_little_endian()
    } else {
        header.is_big_endian()
    };
    if machine != MACHINE || !header.is_class_64() || !native {
        return Some(Kind::Foreign { machine: machine_name(machine, header.is_class_64()) });
    }
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Some(Kind::NotAProgram);
    }
    if is_go(header, endian, data) {
        return Some(Kind::Go);
    }
    let segments = header.program_headers(endian, data).ok()?;
    for segment in segments {
        if let Some(loader) = segment.interpreter(endian, data).ok()? {
            return Some(Kind::Dynamic { loader: OsString::from_vec(loader.to_vec()) });
        }
    }
    if kind == elf::ET_EXEC {
        return Some(Kind::Static { pie: false });
    }
    if has_loader_name(header, endian, data) {
        return Some(Kind::Loader);
    }
    let mut flags = 0;
    for segment in segments {
        for entry in segment.dynamic(endian, data).ok()?.unwrap_or_default() {
            if entry.d_tag(endian) == elf::DT_FLAGS_1 {
                flags = entry.d_val(endian).into();
            }
        }
    }
    // Linkers before 2016 did not set DF_1_PIE; an entry address then tells a program from a library.
    let program = flags & elf::DF_1_PIE.0 != 0 || header.e_entry(endian).into() != 0;
    Some(if program { Kind::Static { pie: true } } else { Kind::Library })
}

/// Whether the Go compiler left its marks: a note that the kernel maps, or its sections.
fn is_go<'data, H, R>(header: &H, endian: Endianness, data: R) -> bool
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let in_sections = header.sections(endian, data).is_ok_and(|sections| {
        [&b".go.buildinfo"[..], b".note.go.buildid"]
            .iter()
            .any(|name| sections.section_by_name(endian, name).is_some())
    });
    let in_notes = || {
        let segments = header.program_headers(endian, data).unwrap_or_default();
        segments.iter().any(|segment| {
            let Ok(Some(mut notes)) = segment.notes(endian, data) else {
                return false;
            };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == b"Go" {
                    return true;
                }
            }
            false
        })
    };
    in_sections || in_notes()
}

/// Whether the file calls itself glibc's loader.
fn has_loader_name<'data, H, R>(header: &H, endian: Endianness, data: R) -> bool
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let name = || {
        let sections = header.sections(endian, data).ok()?;
        let table = sections.dynamic_table(endian, data).ok()?;
        let entry = table.iter().find(|entry| entry.tag == elf::DT_SONAME)?;
        table.string(entry).ok()
    };
    name().is_some_and(|name| name.starts_with(b"ld-linux"))
}

/// A machine in words.
fn machine_name(machine: elf::Machine, class_64: bool) -> String {
    let name = match machine {
        elf::EM_386 => "i386",
        elf::EM_X86_64 if class_64 => "x86-64",
        elf::EM_X86_64 => "x32",
        elf::EM_ARM => "ARM",
        elf::EM_AARCH64 => "AArch64",
        elf::EM_RISCV => "RISC-V",
        elf::EM_PPC64 => "PowerPC",
        elf::EM_S390 => "S/390",
        other => return format!("ELF machine {}", other.0),
    };
    let bits = if class_64 { 64 } else { 32 };
    format!("{name} ({bits}-bit)")
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
