//! Undoing compression: of kernel modules, and of the kernel itself.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::tool;

/// First bytes, the program that undoes it, and the Debian package that has the program.
const FORMATS: &[(&[u8], &str, &str)] = &[
    (b"\xfd7zXZ\0", "xz", "xz-utils"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
    (b"\x1f\x8b", "gzip", "gzip"),
];

/// What is in a file, which may be compressed.
///
/// # Errors
/// When it can't be read, is damaged, or the program for it is missing.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file).with_context(|| format!("can't read `{}`", file.display()))?;
    let format = FORMATS.iter().find(|(magic, ..)| bytes.starts_with(magic));
    let Some((_, program, package)) = format else {
        return Ok(bytes);
    };
    let output = Command::new(tool(program, package)?)
        .args(["--decompress", "--stdout"])
        .stdin(fs::File::open(file)?)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("can't decompress `{}`: {}", file.display(), said.trim());
    }
    Ok(output.stdout)
}

/// Writes the kernel that is compressed inside a bootable image, as QEMU starts it directly: an ELF file, or for
/// arm64 the plain image. That saves half of a VM's boot, since emulated code decompresses slowly.
///
/// # Errors
/// When this is no such image.
pub(super) fn extract_kernel(image: &Path, to: &Path) -> Result<()> {
    let bytes = read(image)?;
    let payload = if is_plain(&bytes) {
        Some(&*bytes)
    } else {
        payload(&bytes).or_else(|| efi_payload(&bytes))
    };
    let payload =
        payload.ok_or_else(|| anyhow!("`{}` is not a kernel's boot image", image.display()))?;
    fs::write(to, payload)?;
    let kernel = read(to)?;
    if !kernel.starts_with(b"\x7fELF") && !is_plain(&kernel) {
        bail!(
            "the kernel in `{}` is compressed in a way not known here",
            image.display()
        );
    }
    fs::write(to, kernel)?;
    Ok(())
}

/// Whether it is arm64's image (kernel documentation: "Booting AArch64 Linux").
fn is_plain(image: &[u8]) -> bool {
    image.get(0x38..0x3c) == Some(b"ARM\x64")
}

/// The compressed kernel in an EFI program that decompresses itself (`zboot-header.S` of the kernel).
fn efi_payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(4..8)? != b"zimg" {
        return None;
    }
    let start = number(image, 8)?;
    image.get(start..start + number(image, 12)?)
}

fn number(image: &[u8], at: usize) -> Option<usize> {
    let bytes = image.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// The compressed kernel in a boot image (kernel documentation: "The Linux/x86 Boot Protocol",
/// fields `setup_sects`, `payload_offset`, `payload_length`), without the size after it.
fn payload(image: &[u8]) -> Option<&[u8]> {
    const SECTOR: usize = 512;
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR + number(image, 0x248)?;
    image.get(start..start + number(image, 0x24c)?.checked_sub(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * 512 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap() + 4;
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend(payload);
        image.extend(*b"size");
        image
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        assert_eq!(payload(&image(b"kernel")), Some(&b"kernel"[..]));
        for cut in [0, 0x202, 0x250, 1040] {
            assert_eq!(payload(&image(b"kernel")[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn arm64_has_images_of_its_own() {
        let mut plain = vec![0; 64];
        plain[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert!(is_plain(&plain));
        assert!(!is_plain(b"ARM\x64"));
        let mut program = b"MZ\0\0zimg".to_vec();
        program.extend(16_u32.to_le_bytes());
        program.extend(6_u32.to_le_bytes());
        program.extend(b"kernel and more");
        assert_eq!(efi_payload(&program), Some(&b"kernel"[..]));
        assert_eq!(efi_payload(&program[..20]), None);
    }

    #[test]
    fn only_a_boot_image_with_a_kernel_is_taken() {
        let folder = std::env::temp_dir().join(format!("image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::write(&from, image(b"\x7fELF.")).unwrap();
        extract_kernel(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"\x7fELF.");
        for wrong in [image(b"what is this"), b"short".to_vec()] {
            fs::write(&from, wrong).unwrap();
            assert!(extract_kernel(&from, &to).is_err());
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
