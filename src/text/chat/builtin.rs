//! The built-in chat templates, as Jinja text for trimmed and left-stripped blocks: the formats that the models were trained
//! with. Models whose tokenizer has a template of its own use that one instead.

/// Name and source of each.
pub const TEMPLATES: &[(&str, &str)] =
    &[("llama-2", LLAMA_2), ("mistral", MISTRAL), ("zephyr", ZEPHYR), ("chatml", CHATML), ("vicuna", VICUNA), ("plain", PLAIN)];

/// The template of that name.
pub fn source(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// Llama-2-chat. The system prompt stands inside the first user turn; BOS opens every exchange.
const LLAMA_2: &str = r"
{%- set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
        {%- set ns.system = '<<SYS>>\n' ~ message.content ~ '\n<</SYS>>\n\n' %}
    {%- elif message.role == 'user' %}
        {{- bos_token }}{{ '[INST] ' ~ (ns.system ~ message.content).strip() ~ ' [/INST]' }}
        {%- set ns.system = '' %}
    {%- elif message.role == 'assistant' %}
        {{- ' ' ~ message.content.strip() ~ ' ' }}{{ eos_token }}
    {%- else %}
        {{- raise_exception('a turn is of role user or assistant, after one optional system prompt') }}
    {%- endif %}
{%- endfor %}";

/// Mistral-7B-Instruct v0.2. The system prompt, which the model was not trained with, opens the first user turn.
const MISTRAL: &str = r"
{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
        {%- set ns.system = message.content ~ '\n\n' %}
    {%- elif message.role == 'user' %}
        {{- '[INST] ' ~ ns.system ~ message.content ~ ' [/INST]' }}
        {%- set ns.system = '' %}
    {%- elif message.role == 'assistant' %}
        {{- message.content }}{{ eos_token }}
    {%- else %}
        {{- raise_exception('a turn is of role user or assistant, after one optional system prompt') }}
    {%- endif %}
{%- endfor %}";

/// Zephyr and TinyLlama-Chat.
const ZEPHYR: &str = r"
{%- for message in messages %}
    {{- '<|' ~ message.role ~ '|>\n' ~ message.content }}{{ eos_token }}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\n' }}
{%- endif %}";

/// ChatML: Qwen, SmolLM2, and many fine-tuned models.
const CHATML: &str = r"
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}";

/// Vicuna v1.1 and v1.5, whose usual system prompt stands in where none is given.
const VICUNA: &str = r#"
{{- bos_token }}
{%- if messages and messages[0].role == 'system' %}
    {{- messages[0].content ~ ' ' }}
{%- else %}
    {{- "A chat between a curious user and an artificial intelligence assistant. " }}
    {{- "The assistant gives helpful, detailed, and polite answers to the user's questions. " }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- 'USER: ' ~ message.content ~ ' ' }}
    {%- elif message.role == 'assistant' %}
        {{- 'ASSISTANT: ' ~ message.content }}{{ eos_token }}
    {%- elif not loop.first %}
        {{- raise_exception('a turn is of role user or assistant, after one optional system prompt') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'ASSISTANT:' }}
{%- endif %}"#;

/// The text alone, for base models; turns are a blank line apart.
const PLAIN: &str = r"
{%- for message in messages %}
    {{- message.content }}
    {%- if not loop.last %}
        {{- '\n\n' }}
    {%- endif %}
{%- endfor %}";
