//! The program looks no names up, neither hosts nor users: it is shipped linked statically.

use std::path::Path;

use testkit::linking::loading_calls;

#[test]
fn nothing_is_called_that_loads_modules_of_the_c_library() {
    let calls = loading_calls(Path::new(env!("CARGO_BIN_EXE_ipfilter"))).unwrap();
    assert!(calls.is_empty(), "{calls:?}");
}
