//! What `--help` says behind the flags of a command: what its numbers mean, and examples. A line of an example has at most 100
//! characters, the width where there is no terminal, so that it is not broken.

pub(super) const PROGRAM: &str = "\
Examples:
  bipo train
  bipo steer --prompt \"How was your day?\" --magnitudes -2,0,2";

pub(super) const DATA: &str = "\
No model is needed. With --model, the first pairs are shown as that model sees them.

Examples:
  bipo data pairs.csv
  bipo data hf:Anthropic/hh-rlhf --limit 100 --model smollm2
  bipo data ranked.jsonl --rank all --json
  bipo data --mc questions.jsonl";

pub(super) const CALIBRATE: &str = "\
Prompts are answered under steering, and at each generated token the divergence of the steered model from the untouched one is taken; or the perplexity of a text, or the margin of pairs. Each direction has its own limit.

Examples:
  bipo calibrate --save
  bipo calibrate --vector out/steering_vector.safetensors --budget ppl=1.1 --json";

pub(super) const CHAT: &str = "\
Lines that begin with / are commands, which /help lists. Where standard input is no terminal, each of its lines is a question or a command.

Examples:
  bipo chat --vector out/steering_vector.safetensors --magnitude 1.5
  bipo chat --system \"You are a sailor.\" --temperature 0.7";

pub(super) const COMPARE: &str = "\
Each method takes the same pairs with settings that docs/methods.md describes. Its vector is measured at its own largest magnitudes within the budget, so that effects are compared at one cost. The verdict says which differences of the margins the held-out pairs show: those whose 95 % interval, over pairs, does not hold 0. An interrupted comparison keeps the vectors that are learned, and the same command goes on.

Examples:
  bipo compare --dataset cheerful --eval-dataset cheerful-heldout --plot table.svg
  bipo compare --methods bipo,caa,prompt --baseline-system \"Be cheerful.\" --report table.html";

pub(super) const CONVERT: &str = "\
The output's extension names its format: .safetensors, .pt, .gguf (llama.cpp), .svec, .npy or .json.

Examples:
  bipo convert bipo_output/steering_vector.safetensors vector.gguf
  bipo convert formal.safetensors:1 concise.safetensors:-0.5 both.safetensors --normalize";

pub(super) const EXPORT: &str = "\
vllm-lens and easysteer steer by the request, in vLLM; vllm-merged is a model for vLLM that has the vector in its weights; llama.cpp steers by a flag; lm-eval measures benchmarks; pyvene runs in PyTorch. docs/engines.md says what each can do, and what was run. bipo warns where an engine cannot steer as the vector's file says: at some tokens only, or by taking the vector out.

Examples:
  bipo export --to easysteer --output-dir easysteer/
  bipo export v.safetensors --to vllm-merged --magnitude 1.5 --model llama-2 -o merged/";

pub(super) const DOCTOR: &str = "\
The hub is asked for an answer and waited for 5 seconds; that it cannot be reached is no failure. Whether there is an access token is told, and never the token. The exit code is 1 where something keeps bipo from working, and the problems say what to do.

Examples:
  bipo doctor
  bipo doctor --offline --json";

pub(super) const COMPLETIONS: &str = "\
Put the line of your shell into ~/.bashrc, into ~/.zshrc (below compinit), or into ~/.config/fish/config.fish.

Examples:
  source <(bipo completions bash)
  source <(bipo completions zsh)
  bipo completions fish | source";

pub(super) const MAN: &str = "\
The pages are named bipo.1, bipo-train.1 and so on; `man bipo-train` finds them in a folder man1 of the manual's path.

Examples:
  bipo man > bipo.1
  bipo man --output-dir ~/.local/share/man/man1";

pub(super) const EVAL: &str = "\
The table has a row for each magnitude. Brackets hold 95 % intervals: Wilson's for shares of pairs or questions, else percentiles of a seeded bootstrap over pairs, questions, tokens or texts. An interval without width is not shown; JSON and CSV have its ends. Files name the columns as the table does, with _ for spaces (moved_right).

Preference (--dataset): dose, the mean over pairs of ‖m·v‖/‖h‖, with the median residual ‖h‖ of a pair's steered tokens at the layer. Margin, β·[(log π_m(chosen) - log π(chosen)) - (log π_m(rejected) - log π(rejected))]. Moved right and moved wrong, the shares of pairs whose margin has the sign of m and the other one. Prefers chosen, the share with log π_m(chosen) > log π_m(rejected), and the same per token.

Multiple choice (--mc): TruthfulQA's mc1 and mc2 as the benchmark defines them, from its CSV or the hub's Parquet, asked through the chat template without examples. matching: the probability of the answer that matches the behaviour, of the two, in items of the CAA data sets; that of a letter is averaged over both orders of the options. accuracy: the share of questions whose right letter is the likeliest, in files with options. acc and acc_norm (--mc-answers text): the same by the options' texts, which the prompt does not list, and by their log-probability per character, as in lm-evaluation-harness. A row that cannot be scored is skipped and counted. The end-of-turn token is no part of an answer.

Damage: perplexity of a neutral text, read without template in windows of 1024 tokens with the vector at every token; perplexity ratio, to that of the model without vector, with the interval of the paired changes; KL, the mean divergence of its next-token distributions from those of the model without vector; repetition, the share of 4-grams of tokens in the generated texts that occur earlier in the same text. Perplexity and KL of a vector that is added at some tokens alone are not measured, but for magnitude 0. With --at: reached KL (reached ppl), what each magnitude costs in the unit of the budget. With --when and --against: rest fired, the share of the prompts without need on which the condition fires; rest KL, the mean over these prompts of KL(steered ‖ untouched) of a token of the greedy answer, 0 where it does not fire. Where the prompts are of a set whose column answer gives numbers, such as gsm8k: numeric match, the share of texts whose last number is the answer.

Baselines (--baseline): random, a random direction of the vector's norm at its layers; prompt, the model without vector, told --baseline-system (on the neutral text it stands in front, followed by an empty line); or another vector file, scaled to the vector's norm, which steers by the same --operation. At magnitude 0 all of them are the untouched model, so that row is there once.

Examples:
  bipo eval --dataset cheerful-heldout
  bipo eval --dataset held-out.csv --magnitudes -2..2:0.5 --baseline random --csv curve.csv
  bipo eval --dataset need.csv --when condition.safetensors --against rest.csv
  bipo eval --vector out/steering_vector.safetensors --mc TruthfulQA.csv";

pub(super) const JUDGE: &str = "\
Each text gets a score from 1 to 4; the mean score of each magnitude is shown with its 95 % interval. With --concept, it gets three grades from 0 to 2, by AxBench's protocol: its score is their harmonic mean, 0 where one is 0, and the magnitude that is best on every second prompt is scored on the other prompts (docs/methods.md).

The key comes from BIPO_JUDGE_KEY, else OPENAI_API_KEY. It is sent over https or to this machine alone, and written nowhere.

A reply counts if one of its lines is `Score: N`. If none is, the judge is asked once more; then the text counts as failed. After status 429 or 5xx, a timeout or a broken connection the request is repeated, up to five times in all.

Examples:
  bipo steer --prompts questions.txt --output sweep.jsonl
  bipo judge sweep.jsonl --rubric cheerful --judge-dry-run
  bipo judge sweep.jsonl --judge https://api.openai.com/v1 --judge-model gpt-4o --rubric mine.txt
  bipo judge sweep.jsonl --concept \"the number seven\" --judge-dry-run";

pub(super) const PAIRS: &str = "\
The model is asked for lists of questions, and for two answers to each: one that shows the behaviour (chosen), and a plain one, or one that shows --opposite (rejected). With --on-policy, the rejected answers are those of the model that will be steered, which needs no second model to write badly. The pairs are as good as the model that is asked; read some before you train on them (bipo data).

Dropped and counted are near-copies among the questions (ROUGE-L of at least 0.7), texts that name the behaviour, refusals, pairs of two like answers, answers that are cut within their first sentence, and replies that are not of the asked form, after three tries. docs/pairs.md has the rules and what is asked.

The cost is shown before anything is asked: a token is counted as four characters, and answers are counted as long as they may be. The key comes from BIPO_PAIRS_KEY, else OPENAI_API_KEY. It is sent over https or to this machine alone, and written nowhere. After status 429 or 5xx, a timeout or a broken connection the request is repeated, up to five times in all.

Examples:
  bipo pairs \"answers like a pirate\" --n 200 --dry-run --price 0.15,0.6
  bipo pairs \"answers like a pirate\" --model-url http://127.0.0.1:8080 --output pairs.jsonl
  bipo pairs \"is cheerful\" --model-url http://127.0.0.1:8080 --on-policy --output pairs.jsonl";

pub(super) const INSPECT: &str = "\
Without --model, bipo reads the files alone. With it, bipo measures two things:

Residual: the length ‖h‖ of the residual stream after the layer, on bundled neutral prompts: its mean over all their tokens, and its median (the first token's is often hundreds of times the others', which moves the mean alone). A ratio is ‖v‖ over it.

Tokens: the score of token t is u_t - mean(u), with u = W_U · (γ ⊙ v / rms(v)), the weight γ of the model's last norm and its unembedding W_U. This is the vector's direct path to the logits, without the blocks above its layer.

bipo warns of a vector that is zero or not finite, of one longer than 5 median residuals, and, without --model, of one whose elements have a root mean square above 10. Vectors for the same layer are compared by their cosine.

Examples:
  bipo inspect bipo_output/steering_vector.safetensors
  bipo inspect a.safetensors b.gguf c.pt --layer 13 --model mistral --top 20";

pub(super) const BENCH: &str = "\
Training: the pairs are random, and both responses of a pair share its prompt. The reference pass and the blocks up to the steered layer are computed before timing starts, as in a run of `bipo train`. Useful work is counted from the shapes, and compared with the best of several matrix products of the same run. A sweep is timed from the prompt to the last token of every magnitude. Each is done once before it is timed.

Peak memory: on a GPU, how much less was free at the worst moment than when bipo began, asked every 2 ms; on the CPU, what the system counts for the process. Counted for a device: the GPU memory that bipo expects to take, computed from the shapes alone.

With --shape and --split, nothing is measured and no device is needed: for each of several devices bipo counts the memory and the operations of making the activation cache, of a training step and of a sweep, in bf16 unless --device names the CPU or --dtype another type. Memory is that of a device of its own, with 1.6 GB of work space.

The last example needs a GPU, and a bipo that is built with the feature cuda.

Examples:
  bipo bench --shape smollm2-135m --seconds 2
  bipo bench --shape llama-2-70b --split 40,40
  bipo bench --model smollm2 --weights quantized
  bipo bench --shape mistral-7b --device cuda --json";

pub(super) const CHECK: &str = "\
Each tiny model has the same random weights on the CPU in f32, as `bipo train` computes there, and on the device as tensors in each dtype: the path that GPUs take, on the CPU too. A difference is |a - b| / |b| over all numbers; the limit beside it is the largest difference that the dtype's rounding explains. The 48 steps are those of the authors' recorded run: 64 pairs, batches of four, signs +1 -1 -1 +1. The exit code is 1 if a check failed.

The last example needs a GPU, and a bipo that is built with the feature cuda.

Examples:
  bipo check
  bipo check --device cpu --dtype bf16 --json
  bipo check --device cuda --model smollm2";

pub(super) const MERGE: &str = "\
The residual after block L is … + down_proj(·), so a bias of m·v on the down projection of block L steers at every token, in a program that reads the bias. `transformers` and bipo read it. vLLM reads it because config.json then says `mlp_bias`; without that key it drops the tensor without a word. SGLang and TensorRT-LLM build Llama's MLP without a bias and drop the tensor without a word: what they generate is not steered. MLC refuses to load the model. When the model is written, a command is printed that answers one prompt with and without the vector: a program whose greedy answer is the one at magnitude 0 applies the vector.

Llama, Granite and SmolLM3 have such a bias (`mlp_bias`); the other biases that the key brings are zero. Mistral and Qwen2 have none, but without a sliding window they compute what a Llama with their weights does, and are written as LlamaForCausalLM. The model is a repository or a folder with safetensors. Other models and GGUF files are not rewritten, and smollm2 may stand for a GGUF file: bipo export writes what steers them without a change of the weights.

Examples:
  bipo merge --model HuggingFaceTB/SmolLM2-135M-Instruct --output-dir merged/
  bipo merge --model llama-2 --vector v.safetensors --magnitude 1.5 -o merged/";

#[cfg(feature = "serve")]
pub(super) const SERVE: &str = "\
A page to try vectors on is at the address itself.

Endpoints: POST /v1/chat/completions and /v1/completions as OpenAI's, streams included; GET /v1/models; GET and POST /v1/steering/vectors, DELETE /v1/steering/vectors/NAME; POST /v1/steering/validate, /v1/sweep and /v1/score; GET /health, /metrics and /openapi.json. The page at / uses the same.

Each request may have one more field, steering: a number is the magnitude of the default vector, a text such as \"cheerful:1.5 - formal:0.5\" names vectors (cheerful:auto is the magnitude that bipo calibrate --save kept), and EasySteer's object {\"vectors\": [{\"source\": \"cheerful\", \"scale\": 1.5}]} means the same. \"\" and 0 are the untouched model. The model name MODEL::VECTOR stands for the vector at magnitude 1.

Memory: the keys and values of all texts under way are held at once (--kv-memory). A text that finds no room waits for its turn.

curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d '{\"messages\": [{\"role\": \"user\", \"content\": \"How was your day?\"}], \"temperature\": 0, \"steering\": 2}'

Examples:
  bipo serve --vector cheerful=out/steering_vector.safetensors
  bipo serve --model mistral --vector formal=formal.safetensors --port 9000 --api-key secret";
