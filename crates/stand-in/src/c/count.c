/* Every access of a kernel, as the compiler's instrumentation for data races reports it, noted in maps with a byte for each
   sector of 32 bytes. */
#include <stddef.h>
#include <stdint.h>
#define HIDDEN __attribute__((visibility("hidden")))
struct stand_in_range {
    uintptr_t first, end;
    unsigned char *read, *written;
};
static struct stand_in_range *ranges;
static unsigned count, last;
static uint64_t outside;
static uintptr_t outside_first;
static unsigned outside_bytes;
static int outside_writes;
static uintptr_t stack;
extern const char __ehdr_start HIDDEN, _end HIDDEN;

void stand_in_begin(struct stand_in_range *all, unsigned n) {
    ranges = all;
    count = n;
    last = 0;
    outside = 0;
    stack = (uintptr_t)__builtin_frame_address(0);
}

/* Accesses outside all ranges; of the first, the place, the bytes and whether it wrote. */
uint64_t stand_in_end(uintptr_t *first, unsigned *bytes, int *writes) {
    *first = outside_first;
    *bytes = outside_bytes;
    *writes = outside_writes;
    ranges = 0;
    count = 0;
    return outside;
}

static int own(uintptr_t address) {
    const uintptr_t low = (uintptr_t)__builtin_frame_address(0);
    return (address >= low && address < stack + 65536) ||
           (address >= (uintptr_t)&__ehdr_start && address < (uintptr_t)&_end);
}

static inline void touch(uintptr_t address, size_t bytes, int writes) {
    if (!(last < count && address >= ranges[last].first && address + bytes <= ranges[last].end)) {
        if (own(address)) return;
        for (last = 0; last < count; last++)
            if (address >= ranges[last].first && address + bytes <= ranges[last].end) break;
        if (last == count) {
            if (!outside++) {
                outside_first = address;
                outside_bytes = (unsigned)bytes;
                outside_writes = writes;
            }
            return;
        }
    }
    unsigned char *map = writes ? ranges[last].written : ranges[last].read;
    const size_t offset = address - ranges[last].first;
    map[offset >> 5] = 1;
    for (size_t at = (offset >> 5) + 1; at <= (offset + bytes - 1) >> 5; at++) map[at] = 1;
}

#define ACCESS(n) \
    HIDDEN void __tsan_read##n(void *p) { touch((uintptr_t)p, n, 0); } \
    HIDDEN void __tsan_write##n(void *p) { touch((uintptr_t)p, n, 1); } \
    HIDDEN void __tsan_unaligned_read##n(void *p) { touch((uintptr_t)p, n, 0); } \
    HIDDEN void __tsan_unaligned_write##n(void *p) { touch((uintptr_t)p, n, 1); } \
    HIDDEN void __tsan_volatile_read##n(void *p) { touch((uintptr_t)p, n, 0); } \
    HIDDEN void __tsan_volatile_write##n(void *p) { touch((uintptr_t)p, n, 1); } \
    HIDDEN void __tsan_unaligned_volatile_read##n(void *p) { touch((uintptr_t)p, n, 0); } \
    HIDDEN void __tsan_unaligned_volatile_write##n(void *p) { touch((uintptr_t)p, n, 1); } \
    HIDDEN void __tsan_read_write##n(void *p) { touch((uintptr_t)p, n, 0); touch((uintptr_t)p, n, 1); } \
    HIDDEN void __tsan_unaligned_read_write##n(void *p) { touch((uintptr_t)p, n, 0); touch((uintptr_t)p, n, 1); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
HIDDEN void __tsan_read_range(void *p, size_t n) { if (n) touch((uintptr_t)p, n, 0); }
HIDDEN void __tsan_write_range(void *p, size_t n) { if (n) touch((uintptr_t)p, n, 1); }
HIDDEN void __tsan_func_entry(void *p) { (void)p; }
HIDDEN void __tsan_func_exit(void) {}
HIDDEN void __tsan_init(void) {}
/* Clang's, in place of the functions of C, of which GCC says nothing. */
HIDDEN void *__tsan_memcpy(void *to, const void *from, size_t n) { return __builtin_memcpy(to, from, n); }
HIDDEN void *__tsan_memset(void *to, int byte, size_t n) { return __builtin_memset(to, byte, n); }
