package restapi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the default PRF of PBKDF2 in old key files
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// decryptKey returns the PEM of a private key without its encryption: the PKCS #8 form that
// OpenSSL writes today, and the older one with a DEK-Info header.
func decryptKey(data []byte, password string) ([]byte, error) {
	rest := data
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return data, nil
		}
		//nolint:staticcheck // the format is deprecated, the files exist
		legacy := x509.IsEncryptedPEMBlock(block)
		if !legacy && block.Type != "ENCRYPTED PRIVATE KEY" {
			continue
		}
		if password == "" {
			return nil, errKeyEncrypted
		}
		plain := &pem.Block{Type: block.Type}
		var err error
		if legacy {
			plain.Bytes, err = x509.DecryptPEMBlock(block, []byte(password)) //nolint:staticcheck // see above
		} else {
			plain.Type = "PRIVATE KEY"
			plain.Bytes, err = decryptPKCS8(block.Bytes, password)
		}
		if err != nil {
			return nil, fmt.Errorf("decrypt private key: %w", err)
		}
		return pem.EncodeToMemory(plain), nil
	}
}

type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct {
	KDF    pkix.AlgorithmIdentifier
	Cipher pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var errKeyFormat = errors.New("this kind of encryption is not supported (want PBES2 with PBKDF2 and AES-CBC)")

// maxIterations keeps a broken file from hanging the agent; OpenSSL writes 2048 or 600000.
const maxIterations = 10_000_000

// decryptPKCS8 undoes PBES2 (RFC 8018) with PBKDF2 and AES in CBC mode.
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var outer encryptedKey
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, err
	}
	if outer.Algorithm.Algorithm.String() != "1.2.840.113549.1.5.13" {
		return nil, errKeyFormat
	}
	var params pbes2Params
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, err
	}
	if params.KDF.Algorithm.String() != "1.2.840.113549.1.5.12" {
		return nil, errKeyFormat
	}
	var kdf pbkdf2Params
	if _, err := asn1.Unmarshal(params.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	keyLen := map[string]int{
		"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32,
	}[params.Cipher.Algorithm.String()]
	prf := map[string]func() hash.Hash{
		"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.11": sha512.New,
	}[kdf.PRF.Algorithm.String()]
	if keyLen == 0 || prf == nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errKeyFormat
	}
	var iv []byte
	if _, err := asn1.Unmarshal(params.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	key, err := pbkdf2.Key(prf, password, kdf.Salt, kdf.Iterations, keyLen)
	if err != nil {
		return nil, err
	}
	return decryptCBC(key, iv, outer.Data)
}

var errKeyPassword = errors.New("wrong password, or the file is damaged")

func decryptCBC(key, iv, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(iv) != block.BlockSize() || len(data) == 0 || len(data)%block.BlockSize() != 0 {
		return nil, errKeyPassword
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > block.BlockSize() {
		return nil, errKeyPassword
	}
	return plain[:len(plain)-pad], nil
}
