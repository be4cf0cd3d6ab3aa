/* A folder of a test's own, to put a tokenizer's files into. */
#ifndef KF_TEST_TEXT_FOLDER_H
#define KF_TEST_TEXT_FOLDER_H

#include "util.h"

#include <unistd.h>

#include "common/base/file.h"

static char dir[] = "/tmp/kf-text-XXXXXX";

static inline int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static inline void clear(void)
{
	static const char *const names[] = { "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
		"added_tokens.json", "config.json", "chat_template.jinja" };
	char path[KF_PATH_MAX];
	kf_err err;
	for (size_t i = 0; i < LEN(names); i++)
		if (kf_path_join(path, dir, names[i], &err) == KF_OK)
			remove(path);
}

static inline int teardown(void **state)
{
	(void)state;
	clear();
	return rmdir(dir);
}

static inline void put_file(const char *name, const void *p, size_t n)
{
	char path[KF_PATH_MAX];
	kf_err err;
	assert_int_equal(kf_path_join(path, dir, name, &err), KF_OK);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	fclose(f);
}

static inline void put_text(const char *name, const char *s) { put_file(name, s, strlen(s)); }

#endif
