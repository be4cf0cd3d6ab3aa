/* The chat templates of a Hugging Face folder: in files of their own, else in tokenizer_config.json; one, or several by name. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/text/internal.h"

enum { FILE_MAX = 1 << 28, TEMPLATES_MAX = 64 };

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "no memory for a chat template"); }

/* A file's text, with a NUL after it. */
static kf_status read_text(const char *dir, const char *name, kf_buf *out, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc = kf_path_join(path, dir, name, err);

	if (rc == KF_OK && (rc = kf_file_read(path, FILE_MAX, out, err)) == KF_OK && memchr(out->data, 0, out->len))
		rc = kf_fail(err, KF_EDATA, "%s: there is a NUL in it", path);
	if (rc == KF_OK && kf_utf8_valid(out->data, out->len) != out->len)
		rc = kf_fail(err, KF_EDATA, "%s: it is not UTF-8", path);
	kf_buf_u8(out, 0);
	return rc == KF_OK ? kf_buf_check(out, err) : rc;
}

/* Add one of several to those of t. */
static kf_status add(kf_tokenizer *t, const char *dir, const char *name, size_t n_name, const char *text, kf_err *err)
{
	json_t *one;

	if (kf_utf8_valid((const uint8_t *)name, n_name) != n_name)
		return kf_fail(err, KF_EDATA, "%s: the chat template \"%.*s\" is not UTF-8", dir, (int)n_name, name);
	one = json_pack("{s:s%,s:s}", "name", name, n_name, "template", text);
	return one && json_array_append_new(t->chat_templates, one) == 0 ? KF_OK : no_memory(err);
}

static int is_template(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 6 && strcmp(e->d_name + n - 6, ".jinja") == 0;
}

/* Those beside the one of chat_template.jinja, each called as its file, in the order of these names. */
static kf_status read_more(kf_tokenizer *t, const char *dir, kf_err *err)
{
	struct dirent **file = NULL;
	char path[KF_PATH_MAX];
	kf_status rc = kf_path_join(path, dir, "additional_chat_templates", err);
	int n = 0;

	if (rc != KF_OK || !kf_is_dir(path))
		return rc;
	if ((n = scandir(path, &file, is_template, alphasort)) < 0)
		return kf_fail_errno(err, "cannot read folder %s", path);
	if (n > TEMPLATES_MAX)
		rc = kf_fail(err, KF_EDATA, "%s: there are %d chat templates in it; at most %d are taken", path, n, TEMPLATES_MAX);
	else if (n && !(t->chat_templates = json_array()))
		rc = no_memory(err);
	if (rc == KF_OK && n && t->chat_template)
		rc = add(t, dir, "default", 7, t->chat_template, err);
	for (int i = 0; i < n; i++) {
		kf_buf text = { 0 };

		if (rc == KF_OK && (rc = read_text(path, file[i]->d_name, &text, err)) == KF_OK)
			rc = add(t, path, file[i]->d_name, strlen(file[i]->d_name) - 6, (const char *)text.data, err);
		kf_buf_release(&text);
		free(file[i]);
	}
	free(file);
	return rc;
}

kf_status kf_tokenizer_read_templates(kf_tokenizer *t, const char *dir, const json_t *config, kf_err *err)
{
	const json_t *v = json_object_get(config, "chat_template"), *item;
	char path[KF_PATH_MAX];
	kf_buf text = { 0 };
	size_t i;
	kf_status rc = kf_path_join(path, dir, "chat_template.jinja", err);

	if (rc == KF_OK && kf_exists(path)) {
		if ((rc = read_text(dir, "chat_template.jinja", &text, err)) == KF_OK && !(t->chat_template = kf_strdup((const char *)text.data)))
			rc = no_memory(err);
		kf_buf_release(&text);
	}
	if (rc == KF_OK)
		rc = read_more(t, dir, err);
	if (rc != KF_OK)
		return rc;
	if (!t->chat_template && !t->chat_templates && json_is_array(v))
		t->chat_templates = json_incref((json_t *)(uintptr_t)v);
	else if (!t->chat_template && !t->chat_templates && json_is_string(v) && !(t->chat_template = kf_strdup(json_string_value(v))))
		return no_memory(err);
	json_array_foreach(t->chat_templates, i, item) {
		const char *name = json_string_value(json_object_get(item, "name")), *is = json_string_value(json_object_get(item, "template"));

		if (!t->chat_template && name && is && strcmp(name, "default") == 0 && !(t->chat_template = kf_strdup(is)))
			return no_memory(err);
	}
	return KF_OK;
}
