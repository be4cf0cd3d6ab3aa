/* The chat templates by name. Each is what transformers' apply_chat_template makes of the template that the family's
 * models publish in tokenizer_config.json, without a generation prompt; tests/parity/chat compares. */
#include "common/text/chat_templates.h"

#include <stddef.h>

#define CHATML(role) TOKEN("<|im_start|>") role "\n" BODY TOKEN("<|im_end|>") "\n"
#define CHATML_SAYS(text) TOKEN("<|im_start|>") "system\n" text TOKEN("<|im_end|>") "\n"
#define CHATML_ROLES .system = CHATML("system"), .user = CHATML("user"), .assistant = CHATML("assistant")
#define HAS_CHATML "'<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>'+'\n'}}"

#define GEMMA_ROLES .user = TOKEN("<start_of_turn>") "user\n" BODY TOKEN("<end_of_turn>") "\n", \
	.assistant = TOKEN("<start_of_turn>") "model\n" BODY TOKEN("<end_of_turn>") "\n", .alternate = true

#define HEADER(role) TOKEN("<|start_header_id|>") role TOKEN("<|end_header_id|>") "\n\n" BODY TOKEN("<|eot_id|>")

const kf_chat_template kf_chat_templates[] = {
	{ .name = "smollm2",
		.no_system = CHATML_SAYS("You are a helpful AI assistant named SmolLM, trained by Hugging Face"), CHATML_ROLES,
		.has = { HAS_CHATML, "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n'" },
		.lacks = { "think", "bos_token", "eos_token" }, .longest = 700 },
	{ .name = "qwen2.5",
		.no_system = CHATML_SAYS("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."), CHATML_ROLES,
		.has = { HAS_CHATML, "'<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n'",
			"'<|im_start|>system\n'+messages[0].content+'<|im_end|>\n'" },
		.lacks = { "think", "bos_token", "eos_token" } },
	{ .name = "qwen2",
		.no_system = CHATML_SAYS("You are a helpful assistant."), CHATML_ROLES,
		.has = { HAS_CHATML, "'<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'" }, .lacks = { "think", "bos_token", "eos_token" }, .longest = 700 },
	{ .name = "qwen1.5",
		.no_system = CHATML_SAYS("You are a helpful assistant"), CHATML_ROLES,
		.has = { HAS_CHATML, "'<|im_start|>system\nYou are a helpful assistant<|im_end|>\n'" }, .lacks = { "think", "bos_token", "eos_token" }, .longest = 700 },
	{ .name = "internlm2", .start = BOS, CHATML_ROLES,
		.has = { "{{bos_token}}{%formessageinmessages%}{{" HAS_CHATML }, .lacks = { "system", "eos_token" }, .longest = 400 },
	{ .name = "chatml", CHATML_ROLES,
		.has = { HAS_CHATML }, .lacks = { "system", "bos_token", "eos_token", "You are", "think" }, .longest = 500 },
	{ .name = "gemma", .start = BOS, GEMMA_ROLES,
		.has = { "{{bos_token}}", "'<start_of_turn>'+role+'\n'+message.content|trim+'<end_of_turn>\n'",
			"System role not supported", "setrole='model'" }, .lacks = { "eos_token" }, .longest = 900 },
	{ .name = "gemma3", .start = BOS, .folded = BODY "\n\n", GEMMA_ROLES,
		.has = { "{{bos_token}}", "'<start_of_turn>'+role+'\n'+(first_user_prefixifloop.firstelse'')",
			"setfirst_user_prefix=messages[0].content+'\n\n'", "setrole='model'" }, .lacks = { "eos_token" } },
	{ .name = "llama-2", .folded = "<<SYS>>\n" BODY "\n<</SYS>>\n\n",
		.user = BOS "[INST] " BODY " [/INST]", .assistant = " " BODY " " EOS, .alternate = true,
		.has = { "bos_token+'[INST] '+content.strip()+' [/INST]'", "' '+content.strip()+' '+eos_token", "'<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'" },
		.lacks = { "true==true", "You are" } },
	{ .name = "llama-3", .start = BOS, .system = HEADER("system"), .user = HEADER("user"), .assistant = HEADER("assistant"),
		.has = { "'<|start_header_id|>'+message.role+'<|end_header_id|>\n\n'+message.content|trim+'<|eot_id|>'",
			"setcontent=bos_token+content" }, .lacks = { "Cutting Knowledge", "tools", "You are", "eos_token" }, .longest = 600 },
	{ .name = "mistral-v1", .start = BOS, .folded = BODY "\n\n",
		.user = " [INST] " BODY " [/INST]", .assistant = " " BODY EOS, .alternate = true,
		.has = { "{{bos_token}}", "' [INST] '+system_message+'\n\n'+message.content+' [/INST]'", "' [INST] '+message.content+' [/INST]'",
			"' '+message.content+eos_token" }, .lacks = { "tools" } },
	{ .name = "mistral-v0.1", .start = BOS,
		.user = "[INST] " BODY " [/INST]", .assistant = BODY EOS " ", .alternate = true,
		.has = { "{{bos_token}}", "'[INST] '+message.content+' [/INST]'", "{{message.content+eos_token+' '}}" },
		.lacks = { "system_message", "tools" } },
	{ .name = "mistral", .start = BOS,
		.user = "[INST] " BODY " [/INST]", .assistant = BODY EOS, .alternate = true,
		.has = { "{{bos_token}}", "'[INST] '+message.content+' [/INST]'", "{{message.content+eos_token}}" },
		.lacks = { "system_message", "tools" } },
	{ .name = "openchat", .start = BOS, .system = "GPT4 Correct System: " BODY TOKEN("<|end_of_turn|>"),
		.user = "GPT4 Correct User: " BODY TOKEN("<|end_of_turn|>"), .assistant = "GPT4 Correct Assistant: " BODY TOKEN("<|end_of_turn|>"),
		.has = { "{{bos_token}}", "'GPT4 Correct '+message.role.title()+': '+message.content+'<|end_of_turn|>'" }, .lacks = { "eos_token" } },
	{ .name = "solar", .system = "### System:\n" BODY "\n\n", .user = "### User:\n" BODY "\n\n", .assistant = "### Assistant:\n" BODY,
		.has = { "{{'### System:\n'+message.content+'\n\n'}}", "{{'### User:\n'+message.content+'\n\n'}}",
			"{{'### Assistant:\n'+message.content}}" }, .lacks = { "bos_token", "eos_token" } },
	{ .name = "zephyr", .system = "<|system|>\n" BODY EOS "\n", .user = "<|user|>\n" BODY EOS "\n", .assistant = "<|assistant|>\n" BODY EOS "\n",
		.has = { "{{'<|user|>\n'+message.content+eos_token}}\n{%", "{{'<|system|>\n'+message.content+eos_token}}\n{%",
			"{{'<|assistant|>\n'+message.content+eos_token}}\n{%" }, .line_ends = true, .lacks = { "bos_token", "strip", "trim" } },
	/* for models that never had a template: a line a message, EOS after each reply */
	{ .name = "plain", .system = BODY "\n", .user = BODY "\n", .assistant = BODY EOS "\n" },
	{ .name = NULL }
};
