// Reads a GGUF control vector for llamacpp_sweep.c, with common_control_vector_load, the function that llama.cpp's own programs use. C
// cannot call that function. scripts/fetch-llamacpp.sh builds this file and links it with libllama-common of the npm package.
#include <algorithm>

#include "common.h"

// Writes the file's vectors, at magnitude 1, into `data` (`length` floats, block 1 first, zero for blocks without a vector). Returns
// the file's hidden size, or -1 if llama.cpp refuses the file or the file has a block that does not fit.
extern "C" int llamacpp_read_control_vector(const char *path, float *data, size_t length) {
    const common_control_vector_data loaded = common_control_vector_load({{1.0f, path}});
    if (loaded.n_embd < 1 || loaded.data.size() > length) return -1;
    std::copy(loaded.data.begin(), loaded.data.end(), data);
    return loaded.n_embd;
}
