/* How the stand-in finds the kernels of a program. */
struct stand_in_parameter {
    unsigned size, alignment;
    int is_pointer, is_integer;
};
struct stand_in_kernel {
    const char *name;
    void (*run)(void **);
    unsigned count;
    const struct stand_in_parameter *parameters;
};
