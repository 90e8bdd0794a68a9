package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/secure/precis"

	"github.com/pgha/pgha/internal/postgres/conf"
)

// BootstrapSpec says what PostBootstrap does beside the roles of Options.
type BootstrapSpec struct {
	// Command is post_bootstrap (row C-043): it gets a connection string as its last argument.
	Command string
	// AppUser, AppPassword and AppDatabase are made for containers (row CP-04); empty: none.
	AppUser, AppPassword, AppDatabase string
}

// PostBootstrap makes what a new cluster needs, over a local connection to the new primary
// (row H-018): the superuser's password, the replication and rewind roles, the operator's
// command, the application's user and database. It may be repeated.
//
// Passwords are sent as SCRAM verifiers, so that no log of the server can hold them.
func (s *Server) PostBootstrap(ctx context.Context, b BootstrapSpec) error {
	conn, err := s.adminConnect(ctx, s.opt.Database)
	if err != nil {
		return fmt.Errorf("post bootstrap: %w", err)
	}
	defer closeConn(conn)
	if err := makeRole(ctx, conn, s.opt.Superuser, "SUPERUSER LOGIN"); err != nil {
		return fmt.Errorf("post bootstrap: %w", err)
	}
	if b.Command != "" {
		if err := s.runPostBootstrap(ctx, b.Command); err != nil {
			return fmt.Errorf("post bootstrap: %w", err)
		}
	}
	if r := s.opt.Replication; r.Username != "" && r.Username != s.opt.Superuser.Username {
		if err := makeRole(ctx, conn, r, "REPLICATION LOGIN"); err != nil {
			return fmt.Errorf("post bootstrap: %w", err)
		}
	}
	if r := s.opt.Rewind; r.Username != s.opt.Superuser.Username {
		if err := makeRewindRole(ctx, conn, r); err != nil {
			return fmt.Errorf("post bootstrap: %w", err)
		}
	}
	if err := makeApplication(ctx, conn, b); err != nil {
		return fmt.Errorf("post bootstrap: %w", err)
	}
	return nil
}

// makeRole creates or alters a role, with its password if one is configured.
func makeRole(ctx context.Context, conn *pgx.Conn, cred Credentials, attributes string) error {
	name := pgx.Identifier{cred.Username}.Sanitize()
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", cred.Username).Scan(&exists); err != nil {
		return fmt.Errorf("role %s: %w", cred.Username, err)
	}
	verb := pick(exists, "ALTER ROLE ", "CREATE ROLE ")
	sql := verb + name + " WITH " + attributes
	if cred.Password != "" {
		verifier, err := scramVerifier(cred.Password)
		if err != nil {
			return fmt.Errorf("role %s: %w", cred.Username, err)
		}
		sql += " PASSWORD '" + verifier + "'" // base64, digits, "$" and ":" only
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("role %s: %w", cred.Username, err)
	}
	return nil
}

func makeRewindRole(ctx context.Context, conn *pgx.Conn, cred Credentials) error {
	if err := makeRole(ctx, conn, cred, "LOGIN"); err != nil {
		return err
	}
	name := pgx.Identifier{cred.Username}.Sanitize()
	for _, f := range []string{
		"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
		"pg_read_binary_file(text)", "pg_read_binary_file(text, bigint, bigint, boolean)",
	} {
		if _, err := conn.Exec(ctx, "GRANT EXECUTE ON FUNCTION pg_catalog."+f+" TO "+name); err != nil {
			return fmt.Errorf("role %s: grant on %s: %w", cred.Username, f, err)
		}
	}
	return nil
}

// makeApplication makes the user and database of a container's environment.
func makeApplication(ctx context.Context, conn *pgx.Conn, b BootstrapSpec) error {
	if b.AppUser != "" {
		if err := makeRole(ctx, conn, Credentials{Username: b.AppUser, Password: b.AppPassword}, "LOGIN"); err != nil {
			return err
		}
	}
	if b.AppDatabase == "" {
		return nil
	}
	sql := "CREATE DATABASE " + pgx.Identifier{b.AppDatabase}.Sanitize()
	if b.AppUser != "" {
		sql += " OWNER " + pgx.Identifier{b.AppUser}.Sanitize()
	}
	_, err := conn.Exec(ctx, sql)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42P04" {
		return nil // it exists
	}
	if err != nil {
		return fmt.Errorf("database %s: %w", b.AppDatabase, err)
	}
	return nil
}

// runPostBootstrap runs the operator's command (row C-043).
func (s *Server) runPostBootstrap(ctx context.Context, command string) error {
	words, err := splitCommand(command)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	addrs, err := s.localAddresses()
	if err != nil {
		return err
	}
	src := Source{Host: addrs[0].Host, Port: addrs[0].Port}
	dsn, err := conf.RenderConnInfo(map[string]string{
		"host": src.Host, "port": src.Port, "user": s.opt.Superuser.Username, "dbname": s.opt.Database,
	})
	if err != nil {
		return err
	}
	env, cleanup, err := s.helperPassFile(src, s.opt.Superuser)
	if err != nil {
		return err
	}
	defer cleanup()
	env = append(env, "PGOPTIONS=-c synchronous_commit=local -c statement_timeout=0")
	_, err = s.run(ctx, helper{Name: "post_bootstrap", Path: words[0], Args: append(words[1:], dsn), Env: env})
	return err
}

// scramVerifier makes what PostgreSQL stores for a SCRAM-SHA-256 password.
func scramVerifier(password string) (string, error) {
	if strings.IndexByte(password, 0) >= 0 {
		return "", errors.New("a password cannot hold a zero byte")
	}
	// PostgreSQL takes a password that cannot be normalized as it is.
	if normal, err := precis.OpaqueString.String(password); err == nil {
		password = normal
	}
	const rounds = 4096
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(word string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(word))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
