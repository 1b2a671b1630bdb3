/* Generates with llama.cpp and a control vector at one magnitude after another, to compare `bipo steer` with it.
 *
 * llama.cpp has one control vector in each context, so magnitudes cannot share a batch. The vector is added to the output of
 * the 0-based block LAYER at every position (LAYER >= 1, because llama.cpp cannot steer block 0). The likeliest token is taken
 * until the end of the turn. The caller applies the chat template to the prompt. Prints one line of JSON.
 *
 * usage: llamacpp_sweep BACKENDS_DIR MODEL.gguf V LAYER MAGNITUDES PROMPT_TEXT MAX_NEW_TOKENS THREADS
 *   V: the vector as raw little-endian f32, or a GGUF control vector, which llama.cpp's own function reads (llamacpp_vector.cpp);
 *   the tensors of a GGUF file name their layers, and LAYER is then not used. MAGNITUDES: for example -2,-1,0,1,2
 * scripts/fetch-llamacpp.sh builds this program with the headers of the release that the library was built from.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "ggml-backend.h"
#include "llama.h"

enum { MAX_TOKENS = 8192 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fail(const char *message, const char *what) {
    fprintf(stderr, "llamacpp_sweep: %s: %s\n", message, what);
    exit(1);
}

static void quiet(enum ggml_log_level level, const char *text, void *unused) {
    (void)unused;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static llama_token argmax(const float *logits, int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* What llama_set_adapter_cvec takes: one vector a block from block 1 on. */
struct control_vector {
    float *data;
    size_t length;
    int hidden, layers;
};

static float *block(struct control_vector *v, int layer) {
    if (layer < 1 || layer >= v->layers) fail("expected a layer from 1 to the last block", "control vector");
    return v->data + (size_t)(layer - 1) * (size_t)v->hidden;
}

static void read_raw(const char *path, int layer, struct control_vector *v) {
    FILE *file = fopen(path, "rb");
    size_t hidden = (size_t)v->hidden;
    if (!file || fread(block(v, layer), sizeof(float), hidden, file) != hidden || fgetc(file) != EOF)
        fail("expected as many f32 as the model has hidden units", path);
    fclose(file);
}

int llamacpp_read_control_vector(const char *path, float *data, size_t length); /* llamacpp_vector.cpp */

static void read_gguf(const char *path, struct control_vector *v) {
    if (llamacpp_read_control_vector(path, v->data, v->length) != v->hidden)
        fail("llama.cpp does not read it as a control vector of this model", path);
}

static bool is_gguf(const char *path) {
    size_t length = strlen(path);
    return length > 5 && strcmp(path + length - 5, ".gguf") == 0;
}

/* Adds magnitude * v. */
static void set_vector(struct llama_context *context, const struct control_vector *v, float magnitude) {
    float *scaled = malloc(v->length * sizeof(float));
    if (!scaled) fail("out of memory", "control vector");
    for (size_t i = 0; i < v->length; i++) scaled[i] = magnitude * v->data[i];
    if (llama_set_adapter_cvec(context, scaled, v->length, v->hidden, 1, v->layers - 1) != 0)
        fail("llama_set_adapter_cvec failed", "control vector");
    free(scaled);
}

/* Decodes greedily; prints one result and returns how many tokens it has. */
static int generate(struct llama_context *context, const struct llama_vocab *vocab, llama_token *prompt, int prompt_tokens,
                    int max_new_tokens, float magnitude, double set_s) {
    llama_token tokens[MAX_TOKENS];
    int count = 0, words = llama_vocab_n_tokens(vocab);
    double begun = now(), first_s = 0.0;
    struct llama_batch batch = llama_batch_get_one(prompt, prompt_tokens);
    while (count < max_new_tokens) {
        if (llama_decode(context, batch) != 0) fail("llama_decode failed", "batch");
        tokens[count] = argmax(llama_get_logits_ith(context, -1), words);
        if (count == 0) first_s = now() - begun;
        batch = llama_batch_get_one(&tokens[count], 1);
        if (llama_vocab_is_eog(vocab, tokens[count++])) break;
    }
    double seconds = now() - begun;
    printf("{\"magnitude\":%g,\"seconds\":%.4f,\"set_vector_s\":%.4f,\"first_token_s\":%.4f,\"tokens\":%d,", magnitude,
           seconds, set_s, first_s, count);
    printf("\"tokens_per_s\":%.2f,\"token_ids\":[", count / seconds);
    for (int i = 0; i < count; i++) printf("%s%d", i ? "," : "", tokens[i]);
    printf("]}");
    return count;
}

int main(int argc, char **argv) {
    if (argc != 9) fail("expected 8 arguments", "see the head of llamacpp_sweep.c");
    int layer = atoi(argv[4]), max_new_tokens = atoi(argv[7]), threads = atoi(argv[8]);
    if (max_new_tokens < 1 || max_new_tokens > MAX_TOKENS) fail("expected 1 to 8192 tokens", argv[7]);
    if (threads < 1) fail("expected at least 1 thread", argv[8]);

    double started = now();
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(argv[1]);
    llama_backend_init();
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    struct llama_model *model = llama_model_load_from_file(argv[2], model_params);
    if (!model) fail("cannot load the model", argv[2]);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    struct control_vector v = {.hidden = llama_model_n_embd(model), .layers = llama_model_n_layer(model)};
    v.length = (size_t)v.hidden * (size_t)(v.layers - 1);
    v.data = calloc(v.length, sizeof(float));
    if (!v.data) fail("out of memory", "control vector");
    if (is_gguf(argv[3]))
        read_gguf(argv[3], &v);
    else
        read_raw(argv[3], layer, &v);

    static llama_token prompt[MAX_TOKENS];
    int prompt_tokens = llama_tokenize(vocab, argv[6], (int)strlen(argv[6]), prompt, MAX_TOKENS, false, true);
    if (prompt_tokens < 1) fail("cannot tokenise the prompt", argv[6]);

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)(prompt_tokens + max_new_tokens);
    params.n_batch = params.n_ctx;
    params.n_threads = params.n_threads_batch = threads;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context) fail("cannot make a context", argv[2]);

    printf("{\"load_s\":%.4f,\"prompt_tokens\":%d,\"threads\":%d,\"results\":[", now() - started, prompt_tokens, threads);
    double sweep_started = now();
    int total = 0;
    for (char *next = argv[5]; *next;) {
        char *end;
        float magnitude = strtof(next, &end);
        if (end == next) fail("expected numbers separated by commas", argv[5]);
        if (next != argv[5]) putchar(',');
        double begun = now();
        llama_memory_clear(llama_get_memory(context), true);
        set_vector(context, &v, magnitude);
        total += generate(context, vocab, prompt, prompt_tokens, max_new_tokens, magnitude, now() - begun);
        next = *end == ',' ? end + 1 : end;
    }
    double sweep_s = now() - sweep_started;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("],\"sweep_s\":%.4f,\"tokens\":%d,\"tokens_per_s\":%.2f,\"peak_rss_mib\":%.1f}\n", sweep_s, total,
           total / sweep_s, (double)usage.ru_maxrss / 1024.0);
    free(v.data);
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
