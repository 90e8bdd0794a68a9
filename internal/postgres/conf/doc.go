// Package conf renders and parses the texts that PostgreSQL reads: its configuration file,
// pg_hba.conf, connection strings, the password file, synchronous_standby_names, and the units
// of settings. It is pure: bytes in, bytes out.
//
// Its guarantee is that a value stays a value. Whatever the text of a setting, a password or a
// name, what is rendered reads back as that text, and cannot begin another line or another
// keyword; what a format cannot hold at all is an error.
package conf
