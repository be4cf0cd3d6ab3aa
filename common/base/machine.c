#include "common/base/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"

/* The number after key (a line's beginning) in a small file; or, key "", the file's first word. False: not there, or "max". */
static bool number(const char *path, const char *key, uint64_t *out)
{
	char line[256];
	size_t n = strlen(key);
	bool found = false;
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof line, f))
		found = !strncmp(line, key, n) && sscanf(line + n, "%" SCNu64, out) == 1;
	if (f) fclose(f);
	return found;
}

typedef struct { const char *mount, *limit, *usage, *cache[2]; } version;

static const version v1 = { "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	{ "total_inactive_file ", "total_active_file " } };
static const version v2 = { "/sys/fs/cgroup", "memory.max", "memory.current", { "inactive_file ", "active_file " } };

/* The group in folder dir: less memory if it allows less. */
static void narrow(const char *dir, const version *v, kf_memory *m)
{
	char path[KF_PATH_MAX + 64];
	uint64_t limit, usage, cache, part;

	snprintf(path, sizeof path, "%s/%s", dir, v->limit);
	if (!number(path, "", &limit) || limit >= m->total) return;
	m->total = limit;
	m->limited = true;
	snprintf(path, sizeof path, "%s/%s", dir, v->usage);
	if (!number(path, "", &usage)) usage = 0;
	snprintf(path, sizeof path, "%s/memory.stat", dir);
	cache = 0;
	for (int i = 0; i < 2; i++)
		if (number(path, v->cache[i], &part)) cache += part;
	usage = usage > cache ? usage - cache : 0;   /* caches give way */
	limit = limit > usage ? limit - usage : 0;
	if (limit < m->available) m->available = limit;
}

/* The group `path` and those it is in. In a container its path may mean nothing here: then what is mounted is its own. */
static void narrow_all(const char *root, const char *path, const version *v, kf_memory *m)
{
	char dir[KF_PATH_MAX];
	size_t base;

	if (snprintf(dir, sizeof dir, "%s%s", root, v->mount) >= (int)sizeof dir) return;
	base = strlen(dir);
	if (!kf_is_dir(dir)) return;
	if (strlen(path) + base >= sizeof dir) return;
	memcpy(dir + base, path, strlen(path) + 1);
	if (!kf_is_dir(dir)) dir[base] = 0;
	for (;;) {
		size_t n = strlen(dir);

		while (n > base && dir[n - 1] == '/') dir[--n] = 0;
		narrow(dir, v, m);
		if (n <= base) break;
		while (n > base && dir[n - 1] != '/') n--;
		dir[n > base ? n - 1 : base] = 0;
	}
}

kf_memory kf_memory_now(const char *root)
{
	char path[KF_PATH_MAX], line[KF_PATH_MAX];
	kf_memory m = { 0 };
	uint64_t kb;
	FILE *f;

	snprintf(path, sizeof path, "%s/proc/meminfo", root);
	if (number(path, "MemTotal:", &kb)) m.total = kb * 1024;
	if (number(path, "MemAvailable:", &kb) || number(path, "MemFree:", &kb)) m.available = kb * 1024;
	snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
	if (!(f = fopen(path, "re"))) return m;
	while (fgets(line, sizeof line, f)) {   /* "4:memory:/a/b", "4:cpu,memory:/a", "0::/a/b" */
		char *names = strchr(line, ':'), *at = names ? strchr(names + 1, ':') : NULL;

		if (!at) continue;
		*at++ = 0;
		at[strcspn(at, "\n")] = 0;
		names++;
		if (!*names) {
			narrow_all(root, at, &v2, &m);
			continue;
		}
		for (char *save, *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
			if (!strcmp(name, "memory")) narrow_all(root, at, &v1, &m);
	}
	fclose(f);
	return m;
}
