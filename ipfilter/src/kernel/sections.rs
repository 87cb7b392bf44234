//! Makes data sections of the BPF object as long as a deployment needs them.
//!
//! A section of data becomes a map of one value, which a program reaches by a constant address. How long that
//! value is stored in the object, and so is set there, before it is loaded.
//!
//! Source: "System V ABI", chapter 4, "Object files" (ELF-64).

/// Where the file header says where the section headers begin, how long each is, how many there are, and
/// which of them has the names.
const TABLE: usize = 0x28;
const ENTRY_SIZE: usize = 0x3a;
const ENTRIES: usize = 0x3c;
const NAMES: usize = 0x3e;

/// Where a section header says where its name begins among the names, and where its bytes are.
const NAME: usize = 0;
const OFFSET: usize = 0x18;
const SIZE: usize = 0x20;

/// `object` with these bytes in the section called `name`, whatever was there. Nothing if there is no such
/// section.
pub(super) fn replace(mut object: Vec<u8>, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let header = find(&object, name)?;
    object.resize(object.len().next_multiple_of(size_of::<u64>()), 0);
    let offset = object.len() as u64;
    object.extend(bytes);
    let mut write = |at: usize, value: u64| {
        let place = object.get_mut(at..)?.first_chunk_mut::<8>()?;
        *place = value.to_ne_bytes();
        Some(())
    };
    write(header + OFFSET, offset)?;
    write(header + SIZE, bytes.len() as u64)?;
    Some(object)
}

/// Where the header of the section called `name` begins.
fn find(object: &[u8], name: &str) -> Option<usize> {
    let table = usize::try_from(double(object, TABLE)?).ok()?;
    let size = usize::from(half(object, ENTRY_SIZE)?);
    let header = |index: u16| table + usize::from(index) * size;
    let names = double(object, header(half(object, NAMES)?) + OFFSET)?;
    let names = object.get(usize::try_from(names).ok()?..)?;
    (0..half(object, ENTRIES)?).map(header).find(|header| {
        let start = word(object, header + NAME).and_then(|start| usize::try_from(start).ok());
        let rest = start.and_then(|start| names.get(start..)?.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    })
}

fn half(object: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*object.get(at..)?.first_chunk()?))
}

fn word(object: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*object.get(at..)?.first_chunk()?))
}

fn double(object: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*object.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use aya_obj::Object;
    use ipfilter_ebpf::abi::names;

    use super::*;

    static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ipfilter-ebpf"));

    #[test]
    fn a_section_is_as_long_as_it_is_made() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let object = replace(OBJECT.to_vec(), names::NEAR_V4, &bytes).expect("a section");
        let parsed = Object::parse(&object).expect("an object");
        assert_eq!(parsed.maps[names::NEAR_V4].data(), bytes);
        assert_eq!(parsed.maps[names::NEAR_V4].value_size(), 4096);
        let before = Object::parse(OBJECT).expect("an object");
        assert_eq!(parsed.maps.len(), before.maps.len());
        let other = names::PORTS_SECTION;
        assert_eq!(parsed.maps[other].data(), before.maps[other].data());
    }

    #[test]
    fn what_is_not_there_is_not_replaced() {
        assert_eq!(replace(OBJECT.to_vec(), ".rodata.near", &[]), None);
        assert_eq!(replace(vec![0; 64], names::NEAR_V4, &[]), None);
        assert_eq!(replace(Vec::new(), names::NEAR_V4, &[]), None);
    }
}
