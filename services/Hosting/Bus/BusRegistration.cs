using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Operations.V1;
using Ministries.Trust;

namespace Ministries.Hosting.Bus;

/// <summary>Adds the bus to a host.</summary>
public static class BusRegistration
{
    /// <summary>The kinds of streams that the bus keeps in the service's ledger, beside the service's own.</summary>
    public static IReadOnlyList<StreamKind> Streams { get; } = [DeadLetters.Kind];

    /// <summary>
    /// Registers the relay, the intake of other services' events, the watchdog and the sweep of duties. <see cref="Service"/>,
    /// <see cref="ServiceLedger"/>, <see cref="Lifecycle"/> and <see cref="TimeProvider"/> must be registered. <see cref="Peers"/>,
    /// <see cref="Credentials"/> and <see cref="Agreements"/> are needed too, unless <see cref="ReadEvents"/>, <see cref="MessageSeal"/>
    /// and a <c>Func&lt;Permissions&gt;</c> were registered before. Registers <see cref="BusStatus"/> and tells <see cref="Lifecycle"/>
    /// whether the part <c>broker</c> is ready.
    /// </summary>
    /// <param name="services">The host's services.</param>
    /// <param name="options">How the service is bound.</param>
    /// <param name="memory">The broker of this process, where <see cref="BusOptions.Broker"/> is <c>memory:</c>; the caller
    /// disposes it after the hosts.</param>
    /// <exception cref="ArgumentException">The address is <c>memory:</c> without <paramref name="memory"/>, or another address with
    /// it.</exception>
    public static IServiceCollection AddBus(this IServiceCollection services, BusOptions options, MemoryBroker? memory = null)
    {
        if (options.Broker.Scheme == "memory" != memory is not null)
            throw new ArgumentException(
                "the address memory: needs a broker of this process, and no other address may have one",
                nameof(memory)
            );
        services.AddSingleton(options);
        services.AddSingleton(new BusStatus(options.OwnBacklog));
        services.TryAddSingleton<ReadEvents>(provider =>
            (producer, request, cancel) =>
                new LedgerService.LedgerServiceClient(provider.GetRequiredService<Peers>()[producer])
                    .ListEventsAsync(request, cancellationToken: cancel)
                    .ResponseAsync
        );
        services.TryAddSingleton<Func<Permissions>>(provider => () => provider.GetRequiredService<Agreements>().InForce.Permissions);
        services.TryAddSingleton(provider =>
        {
            var (credentials, agreements, time) = (
                provider.GetRequiredService<Credentials>(),
                provider.GetRequiredService<Agreements>(),
                provider.GetRequiredService<TimeProvider>()
            );
            return new MessageSeal(
                () => credentials.Context,
                (service, certificate, sent) =>
                    agreements.InForce.Authorities.Identify(certificate, sent, CertificateUse.Server, time.GetUtcNow())
                        is { Refused: Reason.Unspecified, Identity: { } identity }
                    && identity.Participant.Id == $"service/{service}",
                time,
                () => agreements.InForce.Agreement.Version
            );
        });
        services.AddSingleton<EventCommands>();
        services.AddSingleton<Intake>();
        services.AddSingleton(provider => new Broker(
            provider.GetRequiredService<Service>(),
            options,
            provider.GetRequiredService<Intake>(),
            provider.GetRequiredService<ILogger<Broker>>(),
            memory
        )
        {
            Checkpoint = () => provider.GetRequiredService<ServiceLedger>().Known,
            Heard = note => provider.GetRequiredService<ServiceLedger>().See(note),
        });
        services.AddSingleton<IHostedService>(provider => provider.GetRequiredService<Intake>());
        services.AddSingleton<IHostedService>(provider => new Watchdog(
            provider.GetRequiredService<Service>(),
            provider.GetRequiredService<Broker>(),
            options,
            provider.GetRequiredService<BusStatus>(),
            provider.GetRequiredService<Lifecycle>(),
            provider.GetRequiredService<ILogger<Watchdog>>(),
            memory
        ));
        services.AddHostedService<Relay>();
        services.AddHostedService<DutySweep>();
        return services;
    }

    /// <summary>Maps <c>ministries.operations.v1</c>.</summary>
    public static void MapBus(this IEndpointRouteBuilder endpoints) => endpoints.Serve<OperationsEndpoint>(OperationsService.BindService);
}
