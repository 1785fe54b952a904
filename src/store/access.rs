//! The access port in SQL.

use crate::access::{
    AUDIT_PAGE_MAX, Access, Audit, Authenticated, Created, Decision, Identity, NewAudit, NewToken, Project,
    Quotas, Revoked, Role, Token,
};
use crate::record::{Pending, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Durability, Tx, sql};
use crate::store::{Store, json as column};

/// How exact a token's last use is: no write for each request.
const LAST_USE_MS: i64 = 60_000;

/// Tokens and projects that one look gives at the most.
const LIST_MAX: i64 = 10_000;

#[derive(sqlx::FromRow)]
struct TokenRow {
    name: String,
    role: String,
    project: Option<String>,
    created_by: String,
    created_ms: i64,
    expires_ms: Option<i64>,
    last_used_ms: Option<i64>,
    revoked_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct ProjectRow {
    name: String,
    runs_max: Option<i64>,
    queued_max: Option<i64>,
    cpu_seconds_day_max: Option<i64>,
    storage_bytes_max: Option<i64>,
    ceiling: Option<String>,
    images: Option<String>,
    secrets: Option<String>,
}

#[derive(sqlx::FromRow)]
struct AuditRow {
    seq: i64,
    at_ms: i64,
    who: String,
    what: String,
    decision: String,
    object: Option<String>,
    request_id: Option<String>,
    detail: String,
}

impl Access for Store {
    fn create_token<'a>(&'a self, token: &'a NewToken, audit: Option<&'a NewAudit>) -> Pending<'a, Created> {
        Box::pin(self.books.create_token(token, audit))
    }

    fn revoke_token<'a>(&'a self, name: &'a str, audit: Option<&'a NewAudit>) -> Pending<'a, Revoked> {
        Box::pin(self.books.revoke_token(name, audit))
    }

    fn tokens(&self) -> Pending<'_, Vec<Token>> {
        Box::pin(self.books.tokens())
    }

    fn authenticate<'a>(&'a self, secret_sha256: &'a [u8; 32]) -> Pending<'a, Authenticated> {
        Box::pin(self.books.authenticate(secret_sha256))
    }

    fn put_project<'a>(&'a self, project: &'a Project, audit: Option<&'a NewAudit>) -> Pending<'a, ()> {
        Box::pin(self.books.put_project(project, audit))
    }

    fn project<'a>(&'a self, name: &'a str) -> Pending<'a, Option<Project>> {
        Box::pin(self.books.project(name))
    }

    fn projects(&self) -> Pending<'_, Vec<Project>> {
        Box::pin(self.books.projects())
    }

    fn audit<'a>(&'a self, entry: &'a NewAudit) -> Pending<'a, ()> {
        Box::pin(self.books.audit(entry))
    }

    fn audits(&self, before_seq: Option<u64>, count_max: u32) -> Pending<'_, Vec<Audit>> {
        Box::pin(self.books.audits(before_seq, count_max))
    }
}

impl Books {
    async fn create_token(&self, token: &NewToken, audit: Option<&NewAudit>) -> Result<Created, RecordError> {
        let mut tx = self.begin(Durability::PowerCut).await?;
        let now = self.now(&mut tx).await?;
        let insert = sql(
            "INSERT INTO tokens (name, role, project, secret_sha256, created_by, created_ms, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING",
        )
        .bind(&token.name)
        .bind(token.role.word())
        .bind(&token.project)
        .bind(token.secret_sha256.as_slice())
        .bind(&token.created_by)
        .bind(now.wall_ms)
        .bind(token.expires_ms);
        if tx.execute(insert).await? == 0 {
            tx.rollback().await?;
            return Ok(Created::NameTaken);
        }
        self.write_down(&mut tx, audit, now).await?;
        tx.commit().await?;
        Ok(Created::Created)
    }

    async fn revoke_token(&self, name: &str, audit: Option<&NewAudit>) -> Result<Revoked, RecordError> {
        let mut tx = self.begin(Durability::PowerCut).await?;
        let now = self.now(&mut tx).await?;
        let update = sql("UPDATE tokens SET revoked_ms = coalesce(revoked_ms, $2) WHERE name = $1");
        if tx.execute(update.bind(name).bind(now.wall_ms)).await? == 0 {
            tx.rollback().await?;
            return Ok(Revoked::Unknown);
        }
        self.write_down(&mut tx, audit, now).await?;
        tx.commit().await?;
        Ok(Revoked::Revoked)
    }

    async fn tokens(&self) -> Result<Vec<Token>, RecordError> {
        let select =
            sql("SELECT name, role, project, created_by, created_ms, expires_ms, last_used_ms, revoked_ms \
             FROM tokens ORDER BY name LIMIT $1");
        let rows: Vec<TokenRow> = self.database.all(select.bind(LIST_MAX)).await?;
        rows.into_iter().map(|it| self.token(it)).collect()
    }

    fn token(&self, row: TokenRow) -> Result<Token, RecordError> {
        Ok(Token {
            role: Role::of_word(&row.role).ok_or_else(|| self.undecodable(&row.name, "role"))?,
            name: row.name,
            project: row.project,
            created_by: row.created_by,
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            last_used_ms: row.last_used_ms,
            revoked_ms: row.revoked_ms,
        })
    }

    /// The digest is looked up by an index: what its time tells is about a digest, never about a secret.
    async fn authenticate(&self, secret_sha256: &[u8; 32]) -> Result<Authenticated, RecordError> {
        let mut tx = self.database.look().await?;
        let now = self.now(&mut tx).await?;
        let select =
            sql("SELECT name, role, project, created_by, created_ms, expires_ms, last_used_ms, revoked_ms \
             FROM tokens WHERE secret_sha256 = $1");
        let row: Option<TokenRow> = tx.first(select.bind(secret_sha256.as_slice())).await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(Authenticated::Unknown) };
        let Token { name, role, project, expires_ms, last_used_ms, revoked_ms, .. } = self.token(row)?;
        if revoked_ms.is_some() {
            return Ok(Authenticated::Revoked { name });
        }
        if expires_ms.is_some_and(|it| it <= now.wall_ms) {
            return Ok(Authenticated::Expired { name });
        }
        if last_used_ms.is_none_or(|it| (now.wall_ms - it).abs() >= LAST_USE_MS) {
            let mut tx = self.begin(Durability::Crash).await?;
            let update = sql("UPDATE tokens SET last_used_ms = $2 WHERE name = $1");
            tx.execute(update.bind(&name).bind(now.wall_ms)).await?;
            tx.commit().await?;
        }
        Ok(Authenticated::As(Identity { name, role, project }))
    }

    async fn put_project(&self, project: &Project, audit: Option<&NewAudit>) -> Result<(), RecordError> {
        let list = |it: &Option<Vec<String>>| it.as_ref().map(column::text).transpose();
        let number = |it: Option<u64>| it.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
        let upsert = sql("INSERT INTO projects (name, runs_max, queued_max, cpu_seconds_day_max, storage_bytes_max, \
             ceiling, images, secrets) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET \
             runs_max = excluded.runs_max, queued_max = excluded.queued_max, \
             cpu_seconds_day_max = excluded.cpu_seconds_day_max, storage_bytes_max = excluded.storage_bytes_max, \
             ceiling = excluded.ceiling, images = excluded.images, secrets = excluded.secrets")
        .bind(&project.name)
        .bind(number(project.quotas.runs_max))
        .bind(number(project.quotas.queued_max))
        .bind(number(project.quotas.cpu_seconds_day_max))
        .bind(number(project.quotas.storage_bytes_max))
        .bind(&project.ceiling)
        .bind(list(&project.images).map_err(|err| self.unencodable(err))?)
        .bind(list(&project.secrets).map_err(|err| self.unencodable(err))?);
        let mut tx = self.begin(Durability::PowerCut).await?;
        let now = self.now(&mut tx).await?;
        tx.execute(upsert).await?;
        self.write_down(&mut tx, audit, now).await?;
        tx.commit().await?;
        // A quota that was raised may let a run start.
        self.wake.all();
        Ok(())
    }

    async fn project(&self, name: &str) -> Result<Option<Project>, RecordError> {
        let select =
            sql("SELECT name, runs_max, queued_max, cpu_seconds_day_max, storage_bytes_max, ceiling, \
             images, secrets FROM projects WHERE name = $1");
        let rows: Vec<ProjectRow> = self.database.all(select.bind(name)).await?;
        rows.into_iter().next().map(|it| self.project_row(it)).transpose()
    }

    async fn projects(&self) -> Result<Vec<Project>, RecordError> {
        let select =
            sql("SELECT name, runs_max, queued_max, cpu_seconds_day_max, storage_bytes_max, ceiling, \
             images, secrets FROM projects ORDER BY name LIMIT $1");
        let rows: Vec<ProjectRow> = self.database.all(select.bind(LIST_MAX)).await?;
        rows.into_iter().map(|it| self.project_row(it)).collect()
    }

    fn project_row(&self, row: ProjectRow) -> Result<Project, RecordError> {
        let list = |field, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => column::value(&text).map(Some).ok_or_else(|| self.undecodable(&row.name, field)),
        };
        Ok(Project {
            quotas: Quotas {
                runs_max: row.runs_max.map(i64::unsigned_abs),
                queued_max: row.queued_max.map(i64::unsigned_abs),
                cpu_seconds_day_max: row.cpu_seconds_day_max.map(i64::unsigned_abs),
                storage_bytes_max: row.storage_bytes_max.map(i64::unsigned_abs),
            },
            images: list("images", row.images)?,
            secrets: list("secrets", row.secrets)?,
            ceiling: row.ceiling,
            name: row.name,
        })
    }

    async fn audit(&self, entry: &NewAudit) -> Result<(), RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let now = self.now(&mut tx).await?;
        self.write_down(&mut tx, Some(entry), now).await?;
        tx.commit().await
    }

    /// Appends to the audit trail as part of what it is about: neither is ever there without the other.
    pub(crate) async fn write_down(
        &self,
        tx: &mut Tx,
        entry: Option<&NewAudit>,
        now: Moment,
    ) -> Result<(), RecordError> {
        let Some(entry) = entry else { return Ok(()) };
        let insert = sql("INSERT INTO audit (at_ms, who, what, decision, object, request_id, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(now.wall_ms)
        .bind(&entry.who)
        .bind(&entry.what)
        .bind(entry.decision.word())
        .bind(&entry.object)
        .bind(&entry.request_id)
        .bind(&entry.detail);
        tx.execute(insert).await?;
        Ok(())
    }

    async fn audits(&self, before_seq: Option<u64>, count_max: u32) -> Result<Vec<Audit>, RecordError> {
        let select = sql("SELECT seq, at_ms, who, what, decision, object, request_id, detail FROM audit \
             WHERE seq < $1 ORDER BY seq DESC LIMIT $2");
        let select = select.bind(before_seq.unwrap_or(u64::MAX)).bind(count_max.min(AUDIT_PAGE_MAX));
        let rows: Vec<AuditRow> = self.database.all(select).await?;
        let mut audits = Vec::with_capacity(rows.len());
        for row in rows {
            let decision = Decision::of_word(&row.decision)
                .ok_or_else(|| self.undecodable(&row.seq.to_string(), "decision"))?;
            audits.push(Audit {
                seq: row.seq.unsigned_abs(),
                at_ms: row.at_ms,
                entry: NewAudit {
                    who: row.who,
                    what: row.what,
                    decision,
                    object: row.object,
                    request_id: row.request_id,
                    detail: row.detail,
                },
            });
        }
        Ok(audits)
    }
}
