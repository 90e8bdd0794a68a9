// Package deploy holds no program: it is the folder of what pgha is installed with, and of the
// tests that read those files.
//
// The HAProxy configuration is run against stand-ins of the members. The entrypoint of the image is
// run against a stand-in of the agent. The unit files, the compose file and the Dockerfile are only
// parsed and cross-checked: starting them needs a systemd and a container engine. The image has been
// built and run by hand, with podman.
package deploy
