/* config.json and generation_config.json of a model that is written: what kfuse knows of it, and what the folder it comes from said beside that. */
#include "common/model/hf_impl.h"

#include <stdlib.h>
#include <string.h>

#include "common/text/chat.h"

kf_status kf_hf_write_json(const char *dir, const char *name, json_t *v, kf_err *err)
{
	char path[KF_PATH_MAX];
	char *text = v ? json_dumps(v, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
	kf_buf b = { 0 };
	kf_status rc;

	json_decref(v);
	if (!text) return kf_fail(err, KF_ENOMEM, "%s: no memory for %s", dir, name);
	kf_buf_put(&b, text, strlen(text));
	kf_buf_put(&b, "\n", 1);
	free(text);
	rc = kf_buf_check(&b, err);
	if (rc == KF_OK) rc = kf_path_join(path, dir, name, err);
	if (rc == KF_OK) rc = kf_file_write_atomic(path, b.data, b.len, err);
	kf_buf_release(&b);
	return rc;
}

static const char *torch_dtype(kf_dtype t)
{
	return t == KF_F32 ? "float32" : t == KF_F16 ? "float16" : "bfloat16";
}

/* Keys that the model's own configuration may have, and the one written may not: what kf_arch_to_config says in another
 * way, what is of another file format, and code that is not in this folder. */
static bool superseded(const char *key)
{
	static const char *const keys[] = { "dtype", "rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq",
		"original_max_position_embeddings", "partial_rotary_factor", "sliding_window", "sliding_window_pattern",
		"_sliding_window_pattern", "use_sliding_window", "max_window_layers", "layer_types", "head_dim", "num_key_value_heads",
		"num_experts_per_tok", "num_local_experts", "quantization_config", "compression_config", "auto_map" };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(key, keys[i])) return true;
	return false;
}

/* What changes no number: here the model's own word stands. */
static bool own_word(const char *key)
{
	static const char *const keys[] = { "bos_token_id", "eos_token_id", "use_cache", "attention_dropout", "pretraining_tp",
		"output_router_logits" };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(key, keys[i])) return true;
	return false;
}

/* config.json: the architecture, and beside it what the folder that the model comes from says and we do not know. */
static json_t *config_of(const kf_hf_spec *spec)
{
	json_t *c = kf_arch_to_config(spec->arch, torch_dtype(spec->dtype)), *v;
	const json_t *own = spec->like ? kf_weights_config(spec->like) : NULL, *text = json_object_get(own, "text_config");
	const char *key;

	if (json_is_object(text)) own = text;
	json_object_foreach((json_t *)(uintptr_t)own, key, v) {
		json_t *ours = json_object_get(c, key);

		if (superseded(key)) continue;
		if (json_is_object(ours) && json_is_object(v)) json_object_update_missing(ours, v); /* MPT's attn_config */
		if (ours && !own_word(key)) continue;
		if (c && json_object_set(c, key, v) < 0) {
			json_decref(c);
			return NULL;
		}
	}
	return c;
}

/* A list of the token ids in v, which is one, a list or nothing, and of end. *had: v has it already. */
static json_t *with_end(const json_t *v, int32_t end, bool *had)
{
	const size_t n = json_is_array(v) ? json_array_size(v) : json_is_integer(v);
	json_t *list = json_array();
	bool ok = list != NULL;

	*had = false;
	for (size_t i = 0; i < n && ok; i++) {
		const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;

		*had = *had || (json_is_integer(id) && json_integer_value(id) == end);
		ok = json_array_append(list, (json_t *)(uintptr_t)id) == 0;
	}
	if (ok && json_array_append_new(list, json_integer(end)) == 0) return list;
	json_decref(list);
	return NULL;
}

/* Give g, of a model without a generation_config.json, its eos_token_id: what its config.json has; of a GGUF file, which names one
 * token, with those that end a text by their names. */
static bool put_ends(const kf_hf_spec *spec, json_t *g)
{
	const kf_weights *like = spec->like;
	const json_t *ids = like ? kf_weights_ends(like) : NULL;
	const kf_tokenizer *t = like && !kf_weights_config(like) ? spec->tokenizer : NULL;
	const int32_t eos = t && spec->arch->eos < 0 ? kf_tokenizer_eos(t) : spec->arch->eos;
	int32_t named[KF_NAMED_ENDS];
	const int n = t ? kf_tokenizer_named_ends(t, named) : 0;
	json_t *list;
	bool ok;

	if (ids) return json_object_set(g, "eos_token_id", (json_t *)(uintptr_t)ids) == 0;
	ok = (list = json_array()) != NULL;
	if (ok && eos >= 0) ok = json_array_append_new(list, json_integer(eos)) == 0;
	for (int i = 0; i < n && ok; i++)
		if (named[i] != eos) ok = json_array_append_new(list, json_integer(named[i])) == 0;
	if (ok && json_array_size(list)) ok = json_object_set(g, "eos_token_id", json_array_size(list) > 1 ? list : json_array_get(list, 0)) == 0;
	if (ok && json_array_size(list) > 1) json_object_del(g, "_from_model_config"); /* of which it says more */
	json_decref(list);
	return ok;
}

/* The model's own, or of its config.json; end, unless it is -1, ends generation, too: a list of ids then, as transformers takes it. */
static json_t *generation_of(const kf_hf_spec *spec, const json_t *config, int32_t end)
{
	const json_t *own = spec->like ? kf_weights_generation(spec->like) : NULL, *ids;
	json_t *g = json_is_object(own) ? json_copy((json_t *)(uintptr_t)own) : json_pack("{s:b}", "_from_model_config", 1), *list;
	bool had;

	if (!g) return NULL;
	if (!json_is_object(own) && spec->arch->bos >= 0) json_object_set_new(g, "bos_token_id", json_integer(spec->arch->bos));
	if (!json_is_object(own) && !put_ends(spec, g)) {
		json_decref(g);
		return NULL;
	}
	if (end < 0) return g;
	if (!(ids = json_object_get(g, "eos_token_id"))) ids = json_object_get(config, "eos_token_id");
	list = with_end(ids, end, &had);
	if (list && had) {
		json_decref(list);
		return g;
	}
	json_object_del(g, "_from_model_config"); /* of which it says more */
	if (json_object_set_new(g, "eos_token_id", list) == 0) return g;
	json_decref(g);
	return NULL;
}

kf_status kf_hf_write_configs(const kf_hf_spec *spec, const char *dir, kf_err *err)
{
	json_t *config = config_of(spec);
	int32_t end = -1;
	kf_status rc = spec->tokenizer ? kf_chat_other_end(spec->tokenizer, &end, err) : KF_OK;

	if (rc == KF_OK) rc = kf_hf_write_json(dir, "generation_config.json", generation_of(spec, config, end), err);
	if (rc == KF_OK) return kf_hf_write_json(dir, "config.json", config, err);
	json_decref(config);
	return rc;
}
