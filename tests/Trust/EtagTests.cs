using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Ministries.Custody.V1;

namespace Ministries.Trust.Tests;

/// <summary>Etags and ids of records, which stand in requests that others are shown.</summary>
public sealed class EtagTests
{
    private static readonly RecordSecrets Ours = new("ours"u8),
        Others = new("another"u8);

    [Fact]
    public void An_etag_tells_equal_records_from_others_and_nobody_can_try_out_what_was_seen()
    {
        var seen = new Case { Id = "case_00000000000000000000000001", DetainingPower = "UA" };
        var etag = Ours.EtagOf(seen);
        Assert.Matches("^[A-Za-z0-9_-]{22}$", etag);
        Assert.Equal(etag, new RecordSecrets("ours"u8).EtagOf(seen.Clone()));
        Assert.NotEqual(etag, Ours.EtagOf(new Case(seen) { DetainingPower = "KR" }));
        // What anybody can compute is not it, and neither is what another service makes of the same.
        Assert.NotEqual(
            Convert.ToBase64String(SHA256.HashData(seen.ToByteArray()).AsSpan(0, 16)).TrimEnd('='),
            etag.Replace('-', '+').Replace('_', '/')
        );
        Assert.NotEqual(etag, Others.EtagOf(seen));
    }

    [Fact]
    public void An_id_is_the_same_for_the_same_request_and_nobody_else_can_compute_it()
    {
        var id = Ours.IdOf("kr/mfa", "0190163d-8694-739b-aea5-966c26f8ad91", "transfer", 1);
        Assert.Matches("^transfer_[0-9a-hjkmnp-tv-z]{26}$", id);
        Assert.Equal(id, new RecordSecrets("ours"u8).IdOf("kr/mfa", "0190163d-8694-739b-aea5-966c26f8ad91", "transfer", 1));
        Assert.Equal(
            5,
            new[]
            {
                id,
                Others.IdOf("kr/mfa", "0190163d-8694-739b-aea5-966c26f8ad91", "transfer", 1),
                Ours.IdOf("kr/mfa", "0190163d-8694-739b-aea5-966c26f8ad91", "transfer"),
                Ours.IdOf("ua/mfa", "0190163d-8694-739b-aea5-966c26f8ad91", "transfer", 1),
                Ours.IdOf("kr/mfa", "0190163d-8694-739b-aea5-966c26f8ad92", "transfer", 1),
            }
                .Distinct()
                .Count()
        );
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes("kr/mfa\n0190163d-8694-739b-aea5-966c26f8ad91\ntransfer\n1"));
        Assert.NotEqual(hash[0] >> 3, "0123456789abcdefghjkmnpqrstvwxyz".IndexOf(id["transfer_".Length], StringComparison.Ordinal));
    }
}
