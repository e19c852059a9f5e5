from django.db import migrations

# The server has one NOTIFY queue for all databases. A session that LISTENs inside a long
# transaction and sends many notifications can fill it; then NOTIFY fails at COMMIT, and no job can
# be enqueued. So jobs skip NOTIFY when it is half full, and workers find them by polling
# (JOB_POLL_SECONDS). Otherwise these are Procrastinate's triggers, with their names, so that its
# own migrations find them.
_ROOM = "pg_notification_queue_usage() < 0.5"
_INSERTED = """
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
AFTER INSERT ON procrastinate_jobs FOR EACH ROW
WHEN (NEW.status = 'todo'{room})
EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();
"""
_ABORTED = """
DROP TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1
AFTER UPDATE OF abort_requested ON procrastinate_jobs FOR EACH ROW
WHEN (NOT OLD.abort_requested AND NEW.abort_requested AND NEW.status = 'doing'{room})
EXECUTE FUNCTION procrastinate_notify_queue_abort_job_v1();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_sealed_addresses")]

    operations = [
        migrations.RunSQL(each.format(room=f" AND {_ROOM}"), each.format(room=""))
        for each in (_INSERTED, _ABORTED)
    ]
