// Reads a GGUF control vector with llama.cpp's own common_control_vector_load, the function behind the flags of its programs, for
// llamacpp_sweep.c: C cannot call it. Linked with the library libllama-common of the npm package; scripts/fetch-llamacpp.sh builds it.
#include <algorithm>

#include "common.h"

// Writes magnitude 1 of the file's vectors into `data` (`length` floats, block 1 first, zero where the file has none). Returns
// the file's hidden size, or -1 if llama.cpp refuses the file or it has a block that does not fit.
extern "C" int llamacpp_read_control_vector(const char *path, float *data, size_t length) {
    const common_control_vector_data loaded = common_control_vector_load({{1.0f, path}});
    if (loaded.n_embd < 1 || loaded.data.size() > length) return -1;
    std::copy(loaded.data.begin(), loaded.data.end(), data);
    return loaded.n_embd;
}
