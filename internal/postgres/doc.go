// Package postgres knows one local PostgreSQL server: its data directory, its configuration
// files, the helper programs that make and mend it, and what it answers over SQL.
//
// It never starts, promotes, signals or stops the postmaster: that is the fencer's, which alone
// may let a server write. What this package does to a data directory is guarded in two ways:
// a long operation leaves a durable mark outside the directory before its first write and takes
// it away only when the result is on disk, so that a half-made directory is never mistaken for
// a cluster; and nothing is deleted here unless the caller asks for exactly that, directories
// are moved aside instead.
//
// Every reading that failed is an error or an Unknown, never a zero that could pass for an answer.
package postgres
