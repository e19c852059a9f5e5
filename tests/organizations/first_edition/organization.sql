-- An organization's database of the FastAPI edition, as its README describes it, with people in it.
CREATE TABLE users (
    id SERIAL PRIMARY KEY,
    email VARCHAR(255) UNIQUE NOT NULL,
    hashed_password VARCHAR(255) NOT NULL,
    is_admin BOOLEAN DEFAULT FALSE,
    is_active BOOLEAN DEFAULT TRUE,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
-- passlib's hashes of testpass123, testpass456 and testpass789; the first has its usual cost.
INSERT INTO users (email, hashed_password, is_admin, is_active, created_at) VALUES
    ('admin@company.com', '$2b$12$aKllqjcqB7mX.zRj1H62kuue6mDs5ugXc.gt3ddL3mn1xXN3S1ruK',
     TRUE, TRUE, '2024-01-15T10:30:00'),
    ('was@removed.com', 'x', FALSE, TRUE, '2024-01-16T10:30:00'),
    ('Ada@Company.com', '$2b$04$8AB6yVPsqkKmxpxaESVLde4JMKUB5kdVy249R8l60D7kXpaasjHQC',
     FALSE, TRUE, '2024-02-01T08:00:00.5'),
    ('gone@company.com', '$2b$04$rCcNsQ09I/yzwI9gYLi5eOgh/UZ6JxhwDgrzjydhgjqevTUcp6vOm',
     NULL, FALSE, NULL);
DELETE FROM users WHERE email = 'was@removed.com';
