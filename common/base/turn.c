#include "common/base/turn.h"

#include <string.h>

static const char *const names[KF_ROLES] = { "system", "user", "assistant" };

const char *kf_role_name(unsigned role)
{
	return role < KF_ROLES ? names[role] : "?";
}

kf_role kf_role_of(const char *name)
{
	if (strcmp(name, "human") == 0) return KF_USER;
	if (strcmp(name, "gpt") == 0) return KF_ASSISTANT;
	for (int i = 0; i < KF_ROLES; i++)
		if (strcmp(name, names[i]) == 0) return (kf_role)i;
	return KF_ROLES;
}
