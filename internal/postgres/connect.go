package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/postgres/conf"
)

const (
	localConnectTimeout  = 1 * time.Second
	remoteConnectTimeout = 3 * time.Second
	applicationName      = "pgha"
)

// address is one way to reach a server.
type address struct {
	Host string // directory of a Unix socket if it begins with a slash
	Port string
}

func (a address) network() (network, addr string) {
	if strings.HasPrefix(a.Host, "/") {
		return "unix", filepath.Join(a.Host, ".s.PGSQL."+a.Port)
	}
	return "tcp", net.JoinHostPort(a.Host, a.Port)
}

// localAddresses lists how the local server may be reached, the Unix socket first. The running
// postmaster's own file is believed before the configuration.
func (s *Server) localAddresses() ([]address, error) {
	pm, err := s.readPostmasterFile()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no postmaster.pid", ErrNotRunning)
	}
	if err != nil {
		return nil, err
	}
	port := pm.Port
	if port == "" {
		port = fmt.Sprint(s.opt.Port)
	}
	var out []address
	if strings.HasPrefix(pm.SocketDir, "/") {
		out = append(out, address{pm.SocketDir, port})
	}
	if host := pm.Host; host != "" {
		out = append(out, address{localHost(host), port})
	}
	if len(out) == 0 {
		// The postmaster has not written its addresses yet: it is about to start.
		return nil, fmt.Errorf("%w: it has no address yet", ErrNotRunning)
	}
	return out, nil
}

// localHost turns a listen address into one to connect to.
func localHost(listen string) string {
	switch listen {
	case "*", "0.0.0.0":
		return "127.0.0.1"
	case "::":
		return "::1"
	}
	return listen
}

// pgxKeywords are the connection keywords that the Go driver understands; it would send others
// to the server as settings.
func pgxKeywords() []string {
	return []string{"sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert"}
}

// driverConfig makes the settings of a connection of our own. Every keyword is given, so that
// PG* variables of the agent's environment decide nothing.
func (s *Server) driverConfig(a address, database string, cred Credentials, timeout time.Duration) (*pgx.ConnConfig, error) {
	kv := map[string]string{
		"host": a.Host, "port": a.Port, "user": cred.Username, "password": cred.Password,
		"dbname": database, "sslmode": "prefer",
	}
	for _, k := range pgxKeywords() {
		if v := cred.Extra[k]; v != "" {
			kv[k] = v
		}
	}
	dsn, err := conf.RenderConnInfo(kv)
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The driver's message may hold the password.
		return nil, errors.New("connection settings: the driver does not take them: check the ssl files")
	}
	cfg.Password = cred.Password
	cfg.ConnectTimeout = timeout
	// A database of another encoding answers in its own unless asked; the driver takes UTF-8 only.
	cfg.RuntimeParams = map[string]string{"application_name": applicationName, "client_encoding": "UTF8"}
	return cfg, nil
}

// connectLocal opens a connection to the local server as the superuser and makes sure that it
// is the server of this data directory. first is tried before the other addresses.
func (s *Server) connectLocal(ctx context.Context, database string, settings map[string]string, first *address) (*pgx.Conn, address, error) {
	addrs, err := s.localAddresses()
	if err != nil {
		return nil, address{}, err
	}
	if first != nil {
		addrs = append([]address{*first}, addrs...)
	}
	var errs []error
	for i, a := range addrs {
		if first != nil && i > 0 && a == *first {
			continue
		}
		cfg, err := s.driverConfig(a, database, s.opt.Superuser, localConnectTimeout)
		if err != nil {
			return nil, address{}, err
		}
		maps.Copy(cfg.RuntimeParams, settings)
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			if err = s.verifyOwn(ctx, conn); err == nil {
				return conn, a, nil
			}
			closeConn(conn)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, address{}, connectError(errors.Join(errs...))
}

// connectError marks the errors that mean "down or not ready" so that callers need not know the driver.
func connectError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code != codeCannotConnectNow {
		return err
	}
	if errors.Is(err, ErrOtherServer) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotRunning, err)
}

const (
	codeCannotConnectNow  = "57P03"
	codeTooManyConns      = "53300"
	codeUndefinedObject   = "42704"
	codeDuplicateObject   = "42710"
	codeObjectInUse       = "55006"
	codeAdminShutdown     = "57P01"
	codeUndefinedDatabase = "3D000"
)

// verifyOwn compares the data directory of the server that answered with ours.
func (s *Server) verifyOwn(ctx context.Context, conn *pgx.Conn) error {
	var dir string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('data_directory')", pgx.QueryExecModeSimpleProtocol).Scan(&dir); err != nil {
		return fmt.Errorf("which server answers: %w", err)
	}
	a, err1 := os.Stat(dir)
	b, err2 := os.Stat(s.opt.DataDir)
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		return fmt.Errorf("%w: it serves %s, not %s", ErrOtherServer, dir, s.opt.DataDir)
	}
	return nil
}

// closeConn ends a connection without waiting long for a server that hangs.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// sourceAddresses gives the addresses of a source in order; libpq's comma-separated lists are
// taken apart, because each try has its own timeout.
func sourceAddresses(src Source) ([]address, error) {
	hosts, ports := strings.Split(src.Host, ","), strings.Split(src.Port, ",")
	if len(ports) != 1 && len(ports) != len(hosts) {
		return nil, fmt.Errorf("source %s: %d hosts and %d ports", src, len(hosts), len(ports))
	}
	out := make([]address, len(hosts))
	for i, h := range hosts {
		port := strings.TrimSpace(ports[i%len(ports)])
		if port == "" {
			port = "5432"
		}
		if _, err := portNumber(port); err != nil {
			return nil, fmt.Errorf("source %s: %w", src, err)
		}
		out[i] = address{strings.TrimSpace(h), port}
	}
	return out, nil
}

// connectSource opens an SQL connection to a source, as the rewind user.
func (s *Server) connectSource(ctx context.Context, src Source) (*pgx.Conn, error) {
	addrs, err := sourceAddresses(src)
	if err != nil {
		return nil, err
	}
	database := src.Database
	setDefault(&database, s.opt.Database)
	var errs []error
	for _, a := range addrs {
		cfg, err := s.driverConfig(a, database, s.opt.Rewind, remoteConnectTimeout)
		if err != nil {
			return nil, err
		}
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("source %s: %w", src, errors.Join(errs...))
}

// connectReplication opens a replication connection to a source, as the replication user.
func (s *Server) connectReplication(ctx context.Context, src Source) (*pgconn.PgConn, error) {
	addrs, err := sourceAddresses(src)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs {
		cfg, err := s.driverConfig(a, "replication", s.opt.Replication, remoteConnectTimeout)
		if err != nil {
			return nil, err
		}
		cfg.RuntimeParams["replication"] = "true"
		conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("source %s: %w", src, errors.Join(errs...))
}
