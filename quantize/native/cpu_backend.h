/* The kernel inside ggml's CPU backend: nodes are computed where they stand in llama.cpp's graph.
 *
 * A node that a device of its own takes cuts the graph in two: two more parallel regions, and threads that wait
 * for each other twice more. A model of ten layers has 21 such pieces per token. ggml's CPU backend asks
 * the "extra buffer types" (for weights that are laid out for AMX or repacked) before it computes a node
 * itself, whatever buffer the node has. The kernel is one more of them, with no buffers of its own: ggml's own
 * threads call it, and nothing is cut.
 *
 * The device (device.c) stays registered: it tells which context is computing, and it takes over again where this
 * build of ggml has no such list. */
#ifndef STRETCH_CPU_BACKEND_H
#define STRETCH_CPU_BACKEND_H

#include "ggml_backend_abi.h"
#include "stretch.h"

/* The symbols that it needs, ended by NULL. None belongs to ggml's public interface: each may be missing. */
ST_API const char *const *st_cpu_symbols(void);

/* Join the CPU backend, after st_device_enable() has found the kernel right. `symbols`: addresses in the order of
 * st_cpu_symbols(). Returns NULL, or why the device goes on taking the nodes. Again is harmless. */
ST_API const char *st_cpu_enable(void *const *symbols);

/* Whether nodes are computed inside the CPU backend. */
ST_API bool st_cpu_joined(void);

/* Whether the CPU backend computes this node with the kernel. The same answer in every thread. */
bool st_cpu_takes(const struct ggml_tensor *op);

#endif
