//! The built-in chat templates, as Jinja text for trimmed and left-stripped blocks. They are the formats that the models were
//! trained with. A tokenizer's own template is preferred to them.

/// Name and source of each built-in template.
pub const TEMPLATES: &[(&str, &str)] =
    &[("llama-2", LLAMA_2), ("mistral", MISTRAL), ("zephyr", ZEPHYR), ("chatml", CHATML), ("vicuna", VICUNA), ("plain", PLAIN)];

/// Returns the source of the built-in template of this name.
pub fn source(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// Template of Llama-2-chat. The system prompt is inside the first user turn, and BOS begins every exchange.
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

/// Template of Mistral-7B-Instruct v0.2. A system prompt, which the model was not trained with, begins the first user turn.
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

/// Template of Zephyr and TinyLlama-Chat.
const ZEPHYR: &str = r"
{%- for message in messages %}
    {{- '<|' ~ message.role ~ '|>\n' ~ message.content }}{{ eos_token }}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\n' }}
{%- endif %}";

/// ChatML, the template of Qwen, SmolLM2 and many fine-tuned models.
const CHATML: &str = r"
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}";

/// Template of Vicuna v1.1 and v1.5. Vicuna's usual system prompt is the default.
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

/// Template for base models: the texts alone, separated by blank lines.
const PLAIN: &str = r"
{%- for message in messages %}
    {{- message.content }}
    {%- if not loop.last %}
        {{- '\n\n' }}
    {%- endif %}
{%- endfor %}";
