using System.CommandLine;
using System.Diagnostics;
using Google.Protobuf;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.Client;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Gateway;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ministry;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Keys.Tests;

/// <summary>Each use of a key that signs, with the key in a token: by the real host, the client, the witness and the commands. The file
/// that held the key is gone.</summary>
public sealed class UseTests : IAsyncLifetime
{
    private static readonly SoftToken Token = SoftToken.Here;

    private readonly string _folder = Directory.CreateTempSubdirectory("uses-").FullName;
    private readonly Uri _address = new($"https://127.0.0.1:{Ports.Free()}");
    private readonly Uri _witness = new($"https://127.0.0.1:{Ports.Free()}");
    private readonly MemoryBroker _broker = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static Actor Actor =>
        new()
        {
            Office = "headquarters",
            Official = "o-1",
            Authority = "order-1",
        };

    private string AgreementFile => PathOf("agreement.json");

    private string PathOf(params string[] parts) => Path.Combine([_folder, .. parts]);

    public ValueTask InitializeAsync()
    {
        var agreement = StandardAgreement.Read();
        agreement.Witnesses.Clear();
        agreement.Witnesses.Add(new Types.V1.Witness { Participant = "icrc", Address = $"{_witness}" });
        (agreement.CosignaturesDemanded, agreement.CosignatureSeconds) = (1, 60);
        Pki.Init(_folder, agreement, TimeProvider.System);
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        await _broker.DisposeAsync();
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_service_a_client_and_a_witness_sign_with_keys_in_tokens()
    {
        var checkpoints = Token.Move(PathOf("service/custody/checkpoint.key"));
        var requests = Token.Move(PathOf("ua/coordination-hq/requests.key"));
        var cosignatures = Token.Move(PathOf("icrc/cosignatures.key"));
        await using var witness = WitnessServer.Build(
            WitnessSettings.In(_folder, "icrc", PathOf("icrc/state"), _witness) with
            {
                Key = cosignatures,
            },
            TimeProvider.System,
            logging => logging.ClearProviders()
        );
        await witness.StartAsync(Cancel);
        await using var host = await Start(checkpoints);
        var services = new Dictionary<string, Uri> { ["custody"] = _address };
        using var client = new MinistryClient(MinistrySettings.In(_folder, "ua/coordination-hq", services) with { RequestsKey = requests });

        // The client checks the receipt with its checkpoint.
        var opened = await client.Custody.OpenCaseAsync(new OpenCaseRequest { Actor = Actor }, cancellationToken: Cancel);
        Assert.StartsWith("case_", opened.Case);
        var ledger = host.Services.GetRequiredService<ServiceLedger>();
        await Until(() => ledger.Cosigned?.Size >= ledger.Size);
        var seen = await client.Custody.GetCaseAsync(new GetCaseRequest { Case = opened.Case }, cancellationToken: Cancel);
        Assert.Equal(opened.Etag, seen.Etag);
        await host.StopAsync(Cancel);
    }

    [Fact]
    public async Task Ids_and_etags_stay_when_the_key_of_a_service_moves_into_a_token()
    {
        var services = new Dictionary<string, Uri> { ["custody"] = _address };
        using var client = new MinistryClient(MinistrySettings.In(_folder, "ua/coordination-hq", services));
        var key = PathOf("service/custody/checkpoint.key");
        OpenCaseResponse opened;
        await using (var host = await Start(key))
        {
            opened = await client.Custody.OpenCaseAsync(new OpenCaseRequest { Actor = Actor }, cancellationToken: Cancel);
            await host.StopAsync(Cancel);
        }
        await using var again = await Start(Token.Move(key));
        var seen = await client.Custody.GetCaseAsync(new GetCaseRequest { Case = opened.Case }, cancellationToken: Cancel);
        Assert.Equal(opened.Etag, seen.Etag);
        await again.StopAsync(Cancel);
    }

    [Fact]
    public async Task While_the_key_is_out_of_reach_no_write_is_answered_and_afterwards_the_same_write_is()
    {
        var (file, copy) = (PathOf("service/custody/checkpoint.key"), PathOf("copy.key"));
        File.Copy(file, copy);
        var key = Token.Move(file, SoftToken.Empties);
        await using var host = await Start(key);
        using var client = new MinistryClient(
            MinistrySettings.In(_folder, "ua/coordination-hq", new Dictionary<string, Uri> { ["custody"] = _address }) with
            {
                Deadline = TimeSpan.FromSeconds(5),
            }
        );
        await client.Custody.OpenCaseAsync(new OpenCaseRequest { Actor = Actor }, cancellationToken: Cancel);
        SoftToken.Remove(key);
        var request = new OpenCaseRequest { Actor = Actor };
        await Assert.ThrowsAnyAsync<Exception>(async () => await client.Custody.OpenCaseAsync(request, cancellationToken: Cancel));
        Token.Move(copy, SoftToken.Empties, TokenUri.Parse(key, null).Object);
        Assert.StartsWith("case_", (await client.Custody.OpenCaseAsync(request, cancellationToken: Cancel)).Case);
        await host.StopAsync(Cancel);
    }

    [Fact]
    public async Task A_service_whose_token_is_not_there_does_not_start_and_names_it()
    {
        var refused = await Assert.ThrowsAsync<TokenException>(() => Start(Token.Location("checkpoint", "nobody")));
        Assert.Contains("there is no such token", refused.Message);
    }

    [Fact]
    public async Task An_official_approves_with_a_key_in_a_token_by_the_command()
    {
        var official = Token.Move(PathOf("kr/mfa/officials/kr-mfa-official-1.key"));
        var file = PathOf("request.json");
        await File.WriteAllTextAsync(
            file,
            JsonFormatter.Default.Format(
                new DecideTransferRequest
                {
                    Actor = Actor,
                    Etag = "etag",
                    Case = $"case_{new string('a', 26)}",
                    Transfer = $"transfer_{new string('a', 26)}",
                    NoteVerbale = "KR-2025-1",
                }
            ),
            Cancel
        );
        var done = await Run(
            "approve",
            "consular",
            "DecideTransfer",
            "--folder",
            _folder,
            "--json",
            file,
            "--key",
            official,
            "--office",
            "legal"
        );
        Assert.True(done.Code == 0, done.Error);
        var request = JsonParser.Default.Parse<DecideTransferRequest>(await File.ReadAllTextAsync(file, Cancel));
        var agreement = Signing.Agreement(_folder);
        var (officials, refusal) = Approvals.Check(
            request.Approvals,
            "ministries.consular.v1.ConsularService/DecideTransfer",
            request.ToByteArray(),
            Signing.Of(agreement, "kr/mfa"),
            new Permissions(agreement),
            DateTimeOffset.UtcNow,
            "consular"
        );
        Assert.Null(refusal);
        Assert.Equal("kr-mfa-official-1", Assert.Single(officials));
    }

    [Fact]
    public async Task A_version_of_the_agreement_lists_and_is_signed_with_keys_in_tokens_by_the_command()
    {
        using var fresh = Signing.NewKey();
        Signing.Replace(PathOf("fresh.key"), fresh);
        var (own, next) = (Token.Move(PathOf("kr/mfa/agreements.key")), Token.Move(PathOf("fresh.key")));
        var file = PathOf("next.json");
        File.Copy(AgreementFile, file);
        foreach (
            var verb in (string[][])
                [
                    ["agreement", "add-key", file, "--of", "kr/mfa", "--use", "requests", "--key", next],
                    ["agreement", "draft", AgreementFile, file],
                    ["agreement", "sign", file, "--previous", AgreementFile, "--as", "kr/mfa", "--key", own],
                    ["agreement", "check", file, "--previous", AgreementFile],
                ]
        )
        {
            var done = await Run(verb);
            Assert.True(done.Code == 0, $"{verb[1]}: {done.Output}{done.Error}");
        }
        var listed = Signing.Of(JsonParser.Default.Parse<Agreement>(await File.ReadAllTextAsync(file, Cancel)), "kr/mfa").SigningKeys[^1];
        Assert.Equal(Signing.Listed("", SigningKeyUse.Requests, fresh).PublicKey, listed.PublicKey);
    }

    private static async Task<(int Code, string Output, string Error)> Run(params string[] args)
    {
        var root = new RootCommand("ministry");
        foreach (var command in CallCommands.Create().Append(AgreementCommand.Create()))
            root.Add(command);
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await root.Parse(args).InvokeAsync(new InvocationConfiguration { Output = output, Error = error }, Cancel);
        return (code, $"{output}", $"{error}");
    }

    private async Task<WebApplication> Start(string checkpointKey)
    {
        var home = PathOf("service/custody");
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var host = await ServiceHost.Build(
            Custody.CustodyService.Definition,
            new Settings
            {
                Ledger = $"sqlite:{PathOf("custody.db")}",
                Broker = new Uri("memory:"),
                Listen = _address,
                Certificate = Path.Combine(home, "system.pem"),
                CertificateKey = Path.Combine(home, "system.key"),
                Agreement = AgreementFile,
                Checkpoint = PathOf("custody.checkpoint"),
                CheckpointKey = checkpointKey,
                Drain = TimeSpan.FromSeconds(5),
            },
            builder,
            _broker,
            Cancel
        );
        await host.StartAsync(Cancel);
        return host;
    }

    private static async Task Until(Func<bool> so)
    {
        var since = Stopwatch.StartNew();
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while (!so())
        {
            Assert.True(since.Elapsed < TimeSpan.FromSeconds(30), "the cosignature did not come");
            await timer.WaitForNextTickAsync(Cancel);
        }
    }
}
