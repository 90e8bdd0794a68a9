// Package config reads the settings of pgha: the YAML file of one member with its environment
// variables (type Config), and the cluster-wide settings that live in the consensus store as JSON
// (type Dynamic). The two are different types because they have different owners: the file belongs
// to whoever runs the node, /config to whoever runs the cluster.
//
// The file is read strictly. An unknown key is an error that names the nearest known one, since a
// misspelt safety setting that is silently dropped is worse than an agent that does not start.
// A file that a Patroni of today accepts is accepted too; what pgha has no use for is listed in
// Config.Ignored. /config is read tolerantly: it is shared with other versions and other programs,
// and a running cluster must not stop because somebody wrote a bad value into it.
//
// The package depends on the standard library and a YAML parser only. It starts nothing, opens
// no connection and reads no clock.
package config
