/* Copies within a kernel, of which the compiler's instrumentation says nothing, as accesses. */
#include <string.h>
void __tsan_read_range(void *, size_t);
void __tsan_write_range(void *, size_t);
#define memcpy(to, from, n) stand_in_copy(to, from, n)
STAND_IN_UNUSED static inline void *stand_in_copy(void *to, const void *from, size_t n) {
    __tsan_read_range((void *)from, n);
    __tsan_write_range(to, n);
    return __builtin_memcpy(to, from, n);
}
