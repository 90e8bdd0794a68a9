package cluster

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// guard is a small shell script that outlives this process. If this process ends without saying
// goodbye (a panic, a test timeout, kill -9), its end of the pipe closes, and the script kills
// what the run left behind and removes its directory.
type guard struct {
	cmd  *exec.Cmd
	line io.WriteCloser
}

// guardScript reads its directory and program names from the environment, so that its own command
// line never matches its search.
const guardScript = `
read -r word
[ "$word" = goodbye ] && exit 0
quiet=0 rounds=0
while [ "$quiet" -lt 2 ] && [ "$rounds" -lt 50 ]; do
  quiet=$((quiet + 1)) rounds=$((rounds + 1))
  for p in /proc/[0-9]*; do
    read -r comm <"$p/comm" || continue
    # A program that started itself again is called exe.
    case " $RUN_PROGRAMS exe " in *" $comm "*) ;; *) continue ;; esac
    what="$(tr '\0' ' ' <"$p/cmdline") $(readlink "$p/cwd")"
    name="${what%% *}"
    case " $RUN_PROGRAMS " in *" $comm "* | *" ${name##*/} "*) ;; *) continue ;; esac
    case "$what" in *"$RUN_DIR"*) kill -9 "${p#/proc/}" && quiet=0 ;; esac
  done
done 2>/dev/null
for volume in "$RUN_DIR"/*/volume; do umount "$volume"; done 2>/dev/null
[ -n "$RUN_KEEP" ] || rm -rf "$RUN_DIR"
`

func startGuard(dir string, keep bool) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "RUN_DIR=" + dir, "RUN_PROGRAMS=" + strings.Join(ourPrograms(), " ")}
	if keep {
		cmd.Env = append(cmd.Env, "RUN_KEEP=1")
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	line, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return &guard{cmd, line}, nil
}

// dismiss ends the guard without a kill.
func (g *guard) dismiss() error {
	if g == nil {
		return nil
	}
	if _, err := io.WriteString(g.line, "goodbye\n"); err != nil {
		return fmt.Errorf("dismiss guard: %w", err)
	}
	if err := g.line.Close(); err != nil {
		return fmt.Errorf("dismiss guard: %w", err)
	}
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("dismiss guard: %w", err)
	}
	return nil
}
