/* Memory that runs out within a library that does not say so to its caller.
 *
 * jansson leaves out what it has no memory for, an object without a member, or aborts; a library in C++ throws what nobody in C
 * catches. In a program either ends it at once, with status 1 and a message, and with what it finished in place: nothing is under its
 * final name that is not whole, as after kill -9. Everything else that allocates returns KF_ENOMEM.
 */
#ifndef KF_BASE_MEMORY_H
#define KF_BASE_MEMORY_H

/* From main, before anything is allocated with jansson. State of the whole process, as the libraries' own is. */
void kf_memory_arm(void);

#endif
