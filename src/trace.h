/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Owns the tracepoints: one for each change of state. Files are told apart by
 * inode number, places in them by page index.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gmemfd

#if !defined(GMEMFD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define GMEMFD_TRACE_H

#include <linux/tracepoint.h>

#include "gmemfd.h"

TRACE_EVENT(gmem_fault,
	TP_PROTO(const struct gmem_waiter *waiter, pgoff_t index),
	TP_ARGS(waiter, index),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, index)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->ino = waiter->gmem->inode.i_ino;
		__entry->index = index;
		__entry->flags = waiter->flags;
	),
	TP_printk("ino=%llu index=%llu flags=%s", __entry->ino, __entry->index,
		  __print_flags(__entry->flags, "|",
				{ GMEMFD_FAULT_WRITE, "write" },
				{ GMEMFD_FAULT_MINOR, "minor" },
				{ GMEMFD_FAULT_KERNEL, "kernel" }))
);

TRACE_EVENT(gmem_event,
	TP_PROTO(const struct gmem_waiter *waiter),
	TP_ARGS(waiter),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, granule)
		__field(u64, waited)
	),
	TP_fast_assign(
		__entry->ino = waiter->gmem->inode.i_ino;
		__entry->granule = waiter->granule;
		__entry->waited = ktime_get_ns() - waiter->start;
	),
	TP_printk("ino=%llu index=%llu waited_ns=%llu", __entry->ino,
		  __entry->granule, __entry->waited)
);

TRACE_EVENT(gmem_resolve,
	TP_PROTO(const struct gmem *gmem, u32 op, u64 offset, u64 len, s64 done),
	TP_ARGS(gmem, op, offset, len, done),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u32, op)
		__field(u64, offset)
		__field(u64, len)
		__field(s64, done)
	),
	TP_fast_assign(
		__entry->ino = gmem->inode.i_ino;
		__entry->op = op;
		__entry->offset = offset;
		__entry->len = len;
		__entry->done = done;
	),
	TP_printk("ino=%llu op=%s offset=%#llx len=%#llx done=%lld",
		  __entry->ino,
		  __print_symbolic(__entry->op,
				   { GMEMFD_OP_COPY, "copy" },
				   { GMEMFD_OP_CONTINUE, "continue" },
				   { GMEMFD_OP_ZERO, "zero" },
				   { GMEMFD_OP_POISON, "poison" },
				   { GMEMFD_OP_WAKE, "wake" },
				   { GMEMFD_OP_FILL, "fill" }),
		  __entry->offset, __entry->len, __entry->done)
);

TRACE_EVENT(gmem_wake,
	TP_PROTO(const struct gmem *gmem, pgoff_t first, pgoff_t last,
		 unsigned int woken),
	TP_ARGS(gmem, first, last, woken),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, first)
		__field(u64, last)
		__field(u32, woken)
	),
	TP_fast_assign(
		__entry->ino = gmem->inode.i_ino;
		__entry->first = first;
		__entry->last = last;
		__entry->woken = woken;
	),
	TP_printk("ino=%llu first=%llu last=%llu woken=%u", __entry->ino,
		  __entry->first, __entry->last, __entry->woken)
);

TRACE_EVENT(gmem_watch,
	TP_PROTO(const struct gmem_watch *watch, bool added),
	TP_ARGS(watch, added),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, first)
		__field(u64, last)
		__field(u64, modes)
		__field(bool, added)
	),
	TP_fast_assign(
		__entry->ino = watch->gmem->inode.i_ino;
		__entry->first = watch->first;
		__entry->last = watch->last;
		__entry->modes = watch->modes;
		__entry->added = added;
	),
	TP_printk("ino=%llu first=%llu last=%llu modes=%s %s", __entry->ino,
		  __entry->first, __entry->last,
		  __print_flags(__entry->modes, "|",
				{ GMEMFD_MODE_MISSING, "missing" },
				{ GMEMFD_MODE_MINOR, "minor" }),
		  __entry->added ? "added" : "removed")
);

TRACE_EVENT(gmem_punch,
	TP_PROTO(const struct gmem *gmem, pgoff_t first, pgoff_t last),
	TP_ARGS(gmem, first, last),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, first)
		__field(u64, last)
	),
	TP_fast_assign(
		__entry->ino = gmem->inode.i_ino;
		__entry->first = first;
		__entry->last = last;
	),
	TP_printk("ino=%llu first=%llu last=%llu", __entry->ino,
		  __entry->first, __entry->last)
);

#endif /* GMEMFD_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
