//! `libcublasLt.so.13`, which only cuDNN calls.

#![expect(unsafe_code, reason = "a function as C calls it")]

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    130_100
}
